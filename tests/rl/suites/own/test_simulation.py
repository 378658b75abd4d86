"""A Gymnasium environment as a task: its own steps, success by info or by return, pictures."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from mtrl_ntk.rl.envs import TaskEnv
from mtrl_ntk.rl.suites.own.suite import suite_of
from mtrl_ntk.rl.suites.own.tasks import Tasks
from mtrl_ntk.rl.suites.suite import EpisodeRules
from tests.own_tasks import Mass, Silent, make_tasks


def test_a_task_takes_the_steps_of_its_environment() -> None:
    suite, own = suite_of(make_tasks), Mass(1, bound=1.0)
    with closing(TaskEnv("right", seed=0, suite=suite)) as env:
        first = env.reset()
        observation, _ = own.reset(seed=int(env.goals[env.goal_index][0]))
        np.testing.assert_array_equal(first, observation.astype(np.float32))
        for action in np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32):
            step = env.step(action)
            # From [-1, 1] to the bounds of the space, which are -0.5 and 1 here.
            observation, reward, *_ = own.step(0.25 + 0.75 * action.astype(np.float64))
            np.testing.assert_allclose(step.observation, observation, rtol=1e-6)
            assert step.reward == pytest.approx(reward)


def test_an_end_of_the_task_terminates_and_a_time_limit_truncates() -> None:
    def make() -> TimeLimit[object, object]:
        return TimeLimit(Mass(1), 6)

    suite = suite_of(Tasks({"a": make}), "limited")
    assert suite.max_horizon == 6
    with closing(TaskEnv("a", EpisodeRules(6), seed=0, suite=suite)) as env:
        env.reset()
        ends = [env.step([0, 0]) for _ in range(6)]
        assert [(end.terminated, end.truncated) for end in ends] == [(False, False)] * 5 + [
            (False, True)
        ]
    long = suite_of(Tasks({"a": lambda: TimeLimit(Mass(1), 6)}, horizon=50), "long")
    with closing(TaskEnv("a", EpisodeRules(50), seed=0, suite=long)) as env:
        env.reset()
        assert [env.step([0, 0]).truncated for _ in range(6)] == [False] * 5 + [True]
    with closing(TaskEnv("left", seed=0, suite=suite_of(make_tasks))) as env:
        env.reset()
        last = [env.step([-1, 1]) for _ in range(12)][-1]
        assert last.terminated or last.truncated


@pytest.mark.parametrize(("least", "succeeds"), [(-1e6, True), (0.0, False)])
def test_a_return_counts_at_the_end_of_the_episode_only(least: float, succeeds: bool) -> None:
    suite = suite_of(Tasks({"a": lambda: Silent(1)}, horizon=4, success_return=least), "returns")
    rules = EpisodeRules(4, terminate_on_success=True)
    with closing(TaskEnv("a", rules, seed=0, suite=suite)) as env:
        env.reset()
        steps = [env.step([0, 0]) for _ in range(4)]
        assert [step.success for step in steps] == [False] * 3 + [succeeds]


@pytest.mark.parametrize("task", ["left", "right"])
def test_pictures_are_what_the_environment_renders(task: str) -> None:
    with closing(TaskEnv(task, seed=0, suite=suite_of(make_tasks))) as env:
        camera = env.simulation.camera("render", 120)
        env.reset()
        picture = camera.picture()
        assert picture.shape == (120, 120, 3)
        # 60 rows of 90 columns in a square of 120: bars above and below.
        assert picture[:20].max() == 0 < picture[20:100].max()
