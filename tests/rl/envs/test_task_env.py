"""One task as an episodic environment: goals, seeds, horizon, success and guards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs.task_env import Step, TaskEnv
from mtrl_ntk.rl.suites.metaworld.simulation import NUM_GOALS
from mtrl_ntk.rl.suites.suite import EpisodeRules
from tests.simulations import sawyer

Simulation = Any


def test_goals_depend_on_seed_and_task_alone() -> None:
    first = TaskEnv("reach-v3", seed=3)
    copy = TaskEnv("reach-v3", seed=3, copy=5, copies=8)
    np.testing.assert_array_equal(first.goals, copy.goals)
    copy.reseed(4)
    # Not the height, which is the same in all goals.
    assert not np.isin(first.goals[:, :2], copy.goals[:, :2]).any()
    # Same distribution, other task: equal streams would give equal goals.
    push = TaskEnv("push-v3", seed=3)
    assert not np.isin(first.goals[:, :2], push.goals[:, :2]).any()


def goal_sequence(env: TaskEnv, count: int) -> list[int]:
    return [env._next_goal() for _ in range(count)]


def test_resampled_reaches_every_goal_with_a_stream_per_task_and_copy(
    make_env: Callable[..., TaskEnv],
) -> None:
    env = make_env()
    goals = goal_sequence(env, 600)
    assert set(goals) == set(range(NUM_GOALS))
    env.reseed(0)
    assert goal_sequence(env, 600) == goals
    assert goal_sequence(make_env("push-v3"), 20) != goals[:20]
    env._copy = 1
    env.reseed(0)
    assert goal_sequence(env, 20) != goals[:20]
    env._copy = 0
    env.reseed(1)
    assert goal_sequence(env, 20) != goals[:20]


def test_fixed_goal_is_the_same_for_all_copies_and_differs_between_seeds(
    make_env: Callable[..., TaskEnv],
) -> None:
    env = make_env(goal_mode="fixed")
    goals = []
    for seed in range(6):
        env.reseed(seed)
        goal = goal_sequence(env, 3)
        assert len(set(goal)) == 1
        env._copy = 4
        env.reseed(seed)
        assert goal_sequence(env, 3) == goal
        goals.append(goal[0])
    assert len(set(goals)) > 2


@pytest.mark.parametrize("copies", [1, 4, 50])
def test_in_order_runs_each_goal_once(copies: int, make_env: Callable[..., TaskEnv]) -> None:
    env = make_env(goal_mode="in_order")
    env._copies = copies
    sequences = []
    for copy in range(copies):
        env._copy = copy
        env.reseed(0, env.goals)
        sequences.append(goal_sequence(env, NUM_GOALS))
        env.reseed(0, env.goals)
        assert goal_sequence(env, 3) == sequences[-1][:3]
    dealt = np.stack(sequences, axis=1).reshape(-1)
    np.testing.assert_array_equal(dealt, np.arange(dealt.size) % NUM_GOALS)


def test_horizon_truncates_and_never_terminates(make_env: Callable[..., TaskEnv]) -> None:
    env = make_env(horizon=3)
    for _ in range(2):
        env.reset()
        steps = [env.step(np.zeros(4)) for _ in range(3)]
        assert [step.truncated for step in steps] == [False, False, True]
        assert not any(step.terminated for step in steps)
        assert [step.episode_length for step in steps] == [1, 2, 3]
        assert steps[-1].episode_return == pytest.approx(sum(step.reward for step in steps))


def test_full_horizon_is_possible(make_env: Callable[..., TaskEnv]) -> None:
    env = make_env("drawer-close-v3", horizon=500)
    env.reset()
    steps = [env.step(np.zeros(4)) for _ in range(500)]
    assert [index for index, step in enumerate(steps) if step.truncated] == [499]


def stub_successes(env: TaskEnv, monkeypatch: pytest.MonkeyPatch, successes: list[float]) -> None:
    remaining = iter(successes)

    def step(
        _: NDArray[np.float32],
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, float]]:
        return np.ones(39), 2.0, False, False, {"success": next(remaining)}

    monkeypatch.setattr(sawyer(env), "step", step)


def test_success_is_latched_over_the_episode(
    make_env: Callable[..., TaskEnv], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_env(horizon=4)
    stub_successes(env, monkeypatch, [0.0, 1.0, 0.0, 0.0, 0.0])
    env.reset()
    steps = [env.step(np.zeros(4)) for _ in range(4)]
    assert [step.success for step in steps] == [False, True, True, True]
    assert [step.terminated for step in steps] == [False] * 4
    env.reset()
    assert not env.step(np.zeros(4)).success


def test_terminate_on_success_terminates_and_does_not_truncate(
    make_env: Callable[..., TaskEnv], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_env(horizon=2, terminate_on_success=True)
    stub_successes(env, monkeypatch, [0.0, 1.0, 0.0, 0.0])
    env.reset()
    ends = [(step.terminated, step.truncated) for step in (env.step(np.zeros(4)) for _ in range(2))]
    assert ends == [(False, False), (True, False)]
    env.reset()
    ends = [(step.terminated, step.truncated) for step in (env.step(np.zeros(4)) for _ in range(2))]
    assert ends == [(False, False), (False, True)]


def test_all_of_the_action_is_clipped(make_env: Callable[..., TaskEnv]) -> None:
    # drawer-close's reward reads the gripper's raw action.
    def run(action: list[float]) -> list[Step]:
        env = make_env("drawer-close-v3")
        env.reset()
        return [env.step(action) for _ in range(3)]

    for step, expected in zip(run([0, 5, -5, -7]), run([0, 1, -1, -1]), strict=True):
        np.testing.assert_array_equal(step.observation, expected.observation)
        assert step.reward == expected.reward


def test_the_simulation_never_sees_an_action_out_of_range(
    make_env: Callable[..., TaskEnv], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_env()
    env.reset()
    seen: list[NDArray[np.float32]] = []
    step = sawyer(env).step

    def spy(action: NDArray[np.float32]) -> Any:  # noqa: ANN401
        seen.append(action)
        return step(action)

    monkeypatch.setattr(sawyer(env), "step", spy)
    env.step([3.0, -3.0, 0.5, 9.0])
    np.testing.assert_array_equal(seen[0], np.array([1, -1, 0.5, 1], np.float32))
    assert seen[0].dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_action_is_zeros_and_invalid(
    bad: float, make_env: Callable[..., TaskEnv]
) -> None:
    env = make_env()
    env.reset()
    broken = env.step([1.0, bad, 0.0, 0.0])
    assert not broken.valid
    assert not broken.truncated
    after = env.step([0.1, 0.0, 0.0, 0.0])
    assert after.valid
    env = make_env()
    env.reset()
    np.testing.assert_array_equal(env.step(np.zeros(4)).observation, broken.observation)
    np.testing.assert_array_equal(env.step([0.1, 0, 0, 0]).observation, after.observation)


@pytest.mark.parametrize(
    ("observation", "reward"), [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (1.0, 1e39)]
)
def test_non_finite_simulation_truncates_with_the_last_good_observation(
    observation: float,
    reward: float,
    make_env: Callable[..., TaskEnv],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = make_env()
    env.reset()
    good = env.step(np.zeros(4))
    broken = (np.full(39, observation), reward, False, False, {"success": 1.0})
    monkeypatch.setattr(sawyer(env), "step", lambda _: broken)
    step = env.step(np.zeros(4))
    assert (step.valid, step.truncated, step.terminated) == (False, True, False)
    assert (step.success, step.reward, step.episode_length) == (False, 0.0, 2)
    assert step.episode_return == good.reward
    np.testing.assert_array_equal(step.observation, good.observation)


def test_construction_and_steps_warn_of_nothing() -> None:
    code = (
        "import numpy as np; from mtrl_ntk.rl.envs import TaskEnv\n"
        "env = TaskEnv('push-v3', seed=0); env.reset(); env.step(np.zeros(4)); env.close()"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"horizon": 0}, "horizon must be 1 to 500 steps, got 0"),
        ({"horizon": 501}, "horizon must be 1 to 500 steps, got 501"),
        ({"reward_version": "v3"}, "unknown reward_version 'v3'"),
        ({"goal_mode": "resample"}, "unknown goal_mode 'resample'; did you mean 'resampled'"),
    ],
)
def test_bad_rules(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TaskEnv("reach-v3", EpisodeRules(**rules), seed=0)
