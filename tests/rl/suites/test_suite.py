"""A suite of another kind than Meta-World, from its environments to learning, films and reports."""

from __future__ import annotations

import pickle
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.evaluation.episodes import evaluation_rules, protocol
from mtrl_ntk.experiment.options.sections import EvaluationConfig, LoopConfig, VideoConfig
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.experiment.videos.filming import Scene, film
from mtrl_ntk.rl.envs import MultiTaskVectorEnv, TaskEnv, make_envs
from mtrl_ntk.rl.sac import SacConfig
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD
from mtrl_ntk.rl.suites.suite import EpisodeRules, without_version
from tests.points import POINTS, point_config
from tests.videos import decode

Rows = list[tuple[bytes, ...]]


def make(workers: int, **arguments: Any) -> MultiTaskVectorEnv:  # noqa: ANN401
    tasks = POINTS.task_names()
    return MultiTaskVectorEnv(
        tasks, seed=3, envs_per_task=2, horizon=9, suite=POINTS, workers=workers, **arguments
    )


def actions(steps: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (steps, 6, 2)).astype(np.float32)


def rows(envs: MultiTaskVectorEnv, taken: NDArray[np.float32]) -> Rows:
    return [tuple(part.tobytes() for part in envs.step(action)[:4]) for action in taken]


def test_another_suite_steps_with_and_without_workers_and_goes_on_where_it_was() -> None:
    taken = actions(30)
    with closing(make(0)) as envs, closing(make(2)) as others:
        assert envs.single_observation_space.shape == (5,)
        assert envs.action_space.shape == (6, 2)
        assert envs.task_names == ("light", "medium", "heavy")
        first, _ = envs.reset()
        np.testing.assert_array_equal(others.reset()[0], first)
        results = rows(envs, taken)
        assert rows(others, taken[:14]) == results[:14]
        state = others.state()
    with closing(make(1)) as envs:
        envs.restore(state)
        assert rows(envs, taken[14:]) == results[14:]


def test_an_episode_ends_where_the_task_says() -> None:
    env = TaskEnv("light", EpisodeRules(horizon=40), seed=0, suite=POINTS)
    env.reset()
    steps = [env.step([1.0, 0.0]) for _ in range(7)]
    assert [step.terminated for step in steps] == [False] * 5 + [True] * 2
    assert not any(step.truncated for step in steps)
    assert len(env.goals) == 7


def test_a_suite_checks_names_and_rules() -> None:
    assert POINTS.task_names() == POINTS.task_names("all")
    assert POINTS.task_names("two") == ("light", "heavy")
    with pytest.raises(ConfigError, match="unknown task 'heavi'; did you mean 'heavy'"):
        POINTS.task_names(tasks=["heavi"])
    with pytest.raises(ConfigError, match="give at least one task name, such as light"):
        POINTS.task_names(tasks=[])
    with pytest.raises(ConfigError, match="horizon must be 1 to 40 steps, got 41"):
        MultiTaskVectorEnv(["light"], seed=0, horizon=41, suite=POINTS)
    assert POINTS.description == "Points on a line"


@pytest.mark.parametrize("suite", [POINTS, METAWORLD], ids=lambda suite: suite.name)
def test_a_suite_travels_and_its_benchmarks_are_of_its_tasks(suite: Any) -> None:  # noqa: ANN401
    copy = pickle.loads(pickle.dumps(suite))
    assert (copy.name, copy.benchmarks, copy.simulate) == (
        suite.name,
        suite.benchmarks,
        suite.simulate,
    )
    assert {task for tasks in suite.benchmarks.values() for task in tasks} <= set(suite.tasks)
    assert len(set(suite.tasks)) == len(suite.tasks)


def test_costs_that_are_not_known_are_the_mean() -> None:
    suite = replace(POINTS, step_costs={"light": 1.0, "medium": 4.0})
    assert [suite.step_cost(task) for task in suite.tasks] == [1.0, 4.0, 2.5]
    assert POINTS.step_cost("light") == POINTS.step_cost("heavy")


def test_names_without_their_versions() -> None:
    names = ["reach-v3", "Hopper-v10", "light", "v3-v", "a-v3-b"]
    assert [without_version(name) for name in names] == [
        "reach",
        "Hopper",
        "light",
        "v3-v",
        "a-v3-b",
    ]


def test_an_agent_learns_the_tasks_of_another_suite(tmp_path: Path) -> None:
    env = point_config(tasks=("light", "heavy"), horizon=20, workers=0)
    config = RunConfig(
        method="ntkmtl",
        run_dir=tmp_path / "run",
        device="cpu",
        threads=1,
        env=env,
        sac=SacConfig(batch_size=8, width=16, depth=2),
        loop=LoopConfig(total_steps=60, warmstart_steps=20, replay_capacity=100, log_every=20),
        evaluation=EvaluationConfig(evaluate_every=30, evaluation_episodes=3),
    )
    result = train(config)
    assert result.task_names == ("light", "heavy")
    assert np.isfinite(result.mean_returns).all()
    stated = protocol(env, config.evaluation)
    assert (stated["environment"], stated["goals_per_task"]) == ("Points on a line", 7)


def test_another_suite_is_filmed(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    env = point_config(tasks=("light", "heavy"), horizon=12)
    scene = Scene(POINTS, env.task_names, evaluation_rules(env), seed=1)
    config = VideoConfig(video_size=64, video_stride=4)
    (mosaic,) = film(
        lambda observations: np.zeros((*observations.shape[:2], 2), np.float32),
        scene,
        config,
        tmp_path / "mosaic.mp4",
        backend="none",
    )
    frames = decode(mosaic).frames
    assert frames[:, -20:].max() > 100  # the points, below the captions


def test_a_configuration_says_which_suite() -> None:
    with closing(make_envs(point_config(tasks=("heavy",), horizon=9, workers=0), seed=0)) as envs:
        assert envs.suite is POINTS
        assert envs.reset()[0].shape == (1, 5)
