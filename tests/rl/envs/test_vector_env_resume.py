"""Environments that go on where others stood: the same bytes from then on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl_ntk.rl.envs import BENCHMARKS, MultiTaskVectorEnv
from mtrl_ntk.rl.envs.task_env import TaskEnv
from mtrl_ntk.rl.envs.workers import WorkerPool
from mtrl_ntk.rl.suites.metaworld.simulation import RewardVersion
from mtrl_ntk.rl.suites.suite import EpisodeRules, GoalMode

TASKS = ("reach-v3", "drawer-close-v3")
HORIZON = 7


def make(
    workers: int = 0,
    *,
    tasks: tuple[str, ...] = TASKS,
    horizon: int = HORIZON,
    **changes: Any,  # noqa: ANN401 - arguments of many types
) -> MultiTaskVectorEnv:
    arguments: dict[str, Any] = {
        "seed": 3,
        "envs_per_task": 2,
        "reward_normalization": "running_variance",
    }
    return MultiTaskVectorEnv(tasks, horizon=horizon, workers=workers, **arguments | changes)


@pytest.fixture(scope="module")
def fresh() -> Iterator[MultiTaskVectorEnv]:
    envs = make()
    yield envs
    envs.close()


@pytest.fixture(scope="module")
def with_workers() -> Iterator[MultiTaskVectorEnv]:
    envs = make(2)
    yield envs
    envs.close()


def actions_for(envs: MultiTaskVectorEnv, count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return rng.uniform(-1.5, 1.5, (count, envs.num_envs, 4)).astype(np.float32)


def results(envs: MultiTaskVectorEnv, actions: NDArray[np.float32]) -> list[bytes]:
    """All that steps return, and what the warm start would do."""
    seen: list[bytes] = []
    for action in actions:
        *arrays, infos = envs.step(action)
        arrays += [infos["success"], infos["valid"], infos.get("final_obs", arrays[0])]
        episode = infos.get("final_info", {}).get("episode", {"r": arrays[0], "l": arrays[0]})
        seen += [array.tobytes() for array in (*arrays, episode["r"], episode["l"])]
    return [*seen, envs.action_space.sample().tobytes()]


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a checkpoint keeps it: arrays as they are, the rest as JSON."""
    values = {key: value for key, value in state.items() if not isinstance(value, np.ndarray)}
    moments = values.pop("reward_scaler")
    return {**state, **json.loads(json.dumps(values)), "reward_scaler": moments}


@pytest.mark.parametrize(
    "steps",
    [
        *(pytest.param(steps, marks=pytest.mark.slow) for steps in (0, 1, HORIZON - 1, HORIZON)),
        3 * HORIZON + 4,
    ],
)
def test_other_environments_go_on_alike(
    fresh: MultiTaskVectorEnv, with_workers: MultiTaskVectorEnv, steps: int
) -> None:
    envs = make()
    actions = actions_for(envs, steps + 2 * HORIZON)
    if steps > 3:
        actions[steps - 3, 1, 0] = np.nan
    observations, _ = envs.reset()
    for action in actions[:steps]:
        observations = envs.step(action)[0]
    envs.action_space.sample()
    state = through_json(envs.state())
    kept = {name: np.array(state[name]) for name in ("episodes", "lengths", "actions")}
    expected = results(envs, actions[steps:])
    envs.close()
    for other in (fresh, with_workers):
        other.reset(seed=99)
        other.step(actions[0])
        np.testing.assert_array_equal(other.restore(state), observations)
        assert results(other, actions[steps:]) == expected
    # Those that went on have left the state alone.
    for name, array in kept.items():
        np.testing.assert_array_equal(state[name], array)


def test_environments_of_the_same_task_need_not_be_at_the_same_step(
    fresh: MultiTaskVectorEnv,
) -> None:
    envs = make()
    envs.reset()
    actions = actions_for(envs, 3 * HORIZON)
    envs.step(actions[0])
    # As a broken simulation does, an episode ends early.
    bundle: Any = envs._stepper
    bundle.envs[1].rules = EpisodeRules(horizon=2)
    envs.step(actions[1])
    bundle.envs[1].rules = bundle.envs[0].rules
    envs.step(actions[2])
    state = envs.state()
    assert state["lengths"].tolist() == [3, 1, 3, 3]
    assert state["episodes"].tolist() == [1, 2, 1, 1]
    expected = results(envs, actions[3:])
    envs.close()
    fresh.restore(state)
    assert results(fresh, actions[3:]) == expected


def test_a_state_forgets_the_actions_of_earlier_episodes(fresh: MultiTaskVectorEnv) -> None:
    fresh.reset(seed=3)
    for action in actions_for(fresh, HORIZON + 2):
        fresh.step(action)
    state = fresh.state()
    assert state["actions"].shape == (fresh.num_envs, 2, 4)
    before = fresh.restore(state)
    again = fresh.state()
    np.testing.assert_array_equal(fresh.restore(again), before)
    assert again["actions"].tobytes() == state["actions"].tobytes()


@pytest.mark.parametrize("goal_mode", ["resampled", "fixed", "in_order"])
def test_goals_go_on_in_their_order(goal_mode: GoalMode) -> None:
    rules = EpisodeRules(horizon=3, goal_mode=goal_mode)
    env = TaskEnv("reach-v3", rules, seed=1, copy=1, copies=2)
    goals = []
    for _ in range(12):
        env.reset()
        goals.append(env.goal_index)
    other = TaskEnv("reach-v3", rules, seed=1, copy=1, copies=2, goals=env.goals)
    other.go_to(5, np.zeros((2, 4), np.float32))
    later = [other.goal_index]
    for _ in range(7):
        other.reset()
        later.append(other.goal_index)
    assert later == goals[4:]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lengths", np.full(4, HORIZON), "impossible number of steps"),
        ("lengths", np.full(4, -1), "impossible number of steps"),
        ("episodes", np.zeros(4, np.int64), "impossible number of steps"),
        ("lengths", np.zeros(3, np.int64), "lengths is int64"),
        ("episodes", np.ones(4), "episodes is float64"),
        ("actions", np.zeros((4, 9, 4), np.float32), "actions is float32"),
        ("reward_scaler", {"mean": np.zeros(3), "variance": np.ones(4)}, "mean is float64"),
    ],
)
def test_an_impossible_state_is_refused_before_anything_moves(
    fresh: MultiTaskVectorEnv, name: str, value: object, message: str
) -> None:
    fresh.reset(seed=3)
    fresh.step(np.zeros((4, 4)))
    state = fresh.state()
    with pytest.raises(ValueError, match=message):
        fresh.restore({**state, name: value})
    assert fresh.state()["lengths"].tolist() == [1, 1, 1, 1]


def blocked_signals(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


def test_no_signal_of_a_scheduler_ends_a_worker_at_any_time(
    with_workers: MultiTaskVectorEnv,
) -> None:
    pool = with_workers._stepper
    assert isinstance(pool, WorkerPool)
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP}
    processes = [worker.process for worker in pool._workers]
    for process in processes:
        assert process.pid is not None
        assert blocked_signals(process.pid) >= numbers, "from its first moment on"
        for number in numbers:
            os.kill(process.pid, number)
    with_workers.reset(seed=0)
    with_workers.step(np.zeros((4, 4)))
    assert all(process.is_alive() for process in processes)
    assert not blocked_signals(os.getpid()) & numbers


@pytest.mark.slow
@pytest.mark.parametrize("reward_version", ["v1", "v2"])
def test_every_task_of_mt50_goes_on_alike_in_the_middle_of_an_episode(
    reward_version: RewardVersion,
) -> None:
    rules = EpisodeRules(horizon=60, reward_version=reward_version)
    rng = np.random.default_rng(0)
    for name in BENCHMARKS["MT50"]:
        env = TaskEnv(name, rules, seed=5)
        actions = rng.uniform(-1, 1, (100, 4)).astype(np.float32)
        for episode in (actions[:40], actions[40:75]):
            env.reset()
            for action in episode:
                env.step(action)
        other = TaskEnv(name, rules, seed=5, goals=env.goals)
        observation = other.go_to(2, actions[40:75])
        assert observation.tobytes() == env._observation.tobytes(), name
        for action in actions[75:]:
            step, same = env.step(action), other.step(action)
            assert step.observation.tobytes() == same.observation.tobytes(), name
            assert (step.reward, step[2:]) == (same.reward, same[2:]), name


@pytest.mark.slow
def test_mt10_goes_on_alike_with_any_number_of_workers() -> None:
    arguments: dict[str, Any] = {"tasks": BENCHMARKS["MT10"], "horizon": 150, "envs_per_task": 1}
    envs = make(2, **arguments)
    envs.reset()
    actions = actions_for(envs, 237 + 30)
    for action in actions[:237]:
        observations = envs.step(action)[0]
    state = envs.state()
    expected = results(envs, actions[237:])
    envs.close()
    for workers in (0, 3):
        other = make(workers, **arguments)
        np.testing.assert_array_equal(other.restore(state), observations)
        assert results(other, actions[237:]) == expected
        other.close()
