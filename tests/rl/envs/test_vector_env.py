"""The vector environment: Gymnasium's interface, episode ends, seeds and configuration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs import (
    BENCHMARKS,
    MultiTaskVectorEnv,
    TaskEnv,
)
from mtrl_ntk.rl.envs.bundle import EnvBundle
from mtrl_ntk.rl.envs.reward_scaling import RunningVarianceScaler
from mtrl_ntk.rl.suites.suite import EpisodeRules
from tests.simulations import sawyer

TASKS = ("drawer-close-v3", "reach-v3")
COPIES = 2
HORIZON = 4


@pytest.fixture(scope="module")
def module_envs() -> Iterator[MultiTaskVectorEnv]:
    envs = MultiTaskVectorEnv(TASKS, seed=0, envs_per_task=COPIES, horizon=HORIZON)
    yield envs
    envs.close()


@pytest.fixture
def envs(module_envs: MultiTaskVectorEnv) -> Iterator[MultiTaskVectorEnv]:
    """Drawer-close and reach, two copies each, seeded, not yet reset; rules may be changed."""
    module_envs.reset(seed=0)
    yield module_envs
    set_rules(module_envs, EpisodeRules(horizon=HORIZON))


def sub_envs(envs: MultiTaskVectorEnv) -> list[TaskEnv]:
    assert isinstance(envs._stepper, EnvBundle)
    return list(envs._stepper.envs.values())


def set_rules(envs: MultiTaskVectorEnv, rules: EpisodeRules) -> None:
    for env in sub_envs(envs):
        env.rules = rules


def random_actions(count: int, num_envs: int = 4, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, num_envs, 4)).astype(np.float32)


def scripted_actions(
    tasks: tuple[str, ...], copies: int, observations: NDArray[np.float32]
) -> NDArray[np.float32]:
    policies: dict[str, Any] = ENV_POLICY_MAP
    names = [name for name in tasks for _ in range(copies)]
    rows = zip(names, observations.astype(np.float64), strict=True)
    return np.stack([policies[name]().get_action(row) for name, row in rows]).astype(np.float32)


def test_layout_is_tasks_then_copies(envs: MultiTaskVectorEnv) -> None:
    assert envs.task_names == TASKS
    assert (envs.num_tasks, envs.envs_per_task, envs.num_envs) == (2, 2, 4)
    assert [env.name for env in sub_envs(envs)] == [TASKS[0], TASKS[0], TASKS[1], TASKS[1]]
    observations, infos = envs.reset(seed=0)
    by_task = observations.reshape(2, 2, 39)
    for index, env in enumerate(sub_envs(envs)):
        single = TaskEnv(env.name, env.rules, seed=0, copy=index % 2, copies=2, goals=env.goals)
        np.testing.assert_array_equal(by_task[index // 2, index % 2], single.reset())
    assert infos == {}


def test_types_and_spaces(envs: MultiTaskVectorEnv) -> None:
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.single_action_space.shape == (4,)
    assert envs.action_space.shape == (4, 4)
    assert np.full((4, 39), 1e30, np.float32) in envs.observation_space
    observations, _ = envs.reset()
    assert observations in envs.observation_space
    for action in random_actions(HORIZON):
        observations, rewards, terminations, truncations, infos = envs.step(action)
        assert observations in envs.observation_space
        assert rewards.dtype == infos["success"].dtype == np.float32
        assert terminations.dtype == truncations.dtype == infos["valid"].dtype == np.bool_
        shapes = {
            x.shape
            for x in (rewards, terminations, truncations, *infos.values())
            if isinstance(x, np.ndarray) and x.ndim == 1
        }
        assert shapes == {(4,)}
    assert infos["final_obs"].dtype == infos["final_info"]["success"].dtype == np.float32


def test_results_are_not_overwritten_by_the_next_step(envs: MultiTaskVectorEnv) -> None:
    envs.reset()
    actions = random_actions(HORIZON + 1)
    kept = [envs.step(action) for action in actions[:HORIZON]]
    copies = [(step[0].copy(), step[1].copy(), step[4]["success"].copy()) for step in kept]
    final = kept[-1][4]["final_obs"].copy()
    envs.step(actions[HORIZON])
    for step, (observations, rewards, success) in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(step[0], observations)
        np.testing.assert_array_equal(step[1], rewards)
        np.testing.assert_array_equal(step[4]["success"], success)
    np.testing.assert_array_equal(kept[-1][4]["final_obs"], final)


def test_truncation_resets_in_the_same_step(envs: MultiTaskVectorEnv) -> None:
    start, _ = envs.reset(seed=1)
    actions = random_actions(HORIZON)
    rewards = np.zeros(4)
    for index, action in enumerate(actions):
        observations, reward, terminations, truncations, infos = envs.step(action)
        rewards += reward
        assert not terminations.any()
        assert truncations.all() == truncations.any() == (index == HORIZON - 1)
        assert ("final_obs" in infos) == ("final_info" in infos) == (index == HORIZON - 1)
    assert infos["_final_obs"].all()
    # A first observation repeats its frame; that of a step does not.
    np.testing.assert_array_equal(observations[:, :18], observations[:, 18:36])
    assert (infos["final_obs"][:, :18] != infos["final_obs"][:, 18:36]).any(axis=1).all()
    assert (observations[:, 4:] != start[:, 4:]).any()
    np.testing.assert_allclose(infos["final_info"]["episode"]["r"], rewards, rtol=1e-6)
    np.testing.assert_array_equal(infos["final_info"]["episode"]["l"], [HORIZON] * 4)


def test_next_observations_chain_into_the_following_step(envs: MultiTaskVectorEnv) -> None:
    observations, _ = envs.reset()
    for action in random_actions(2 * HORIZON + 1):
        previous = observations
        observations, _, _, _, infos = envs.step(action)
        next_observations = infos.get("final_obs", observations)
        # Each observation holds the frame before it.
        np.testing.assert_array_equal(next_observations[:, 18:36], previous[:, :18])


@pytest.mark.filterwarnings("ignore:Constant")
def test_ends_of_some_episodes(envs: MultiTaskVectorEnv) -> None:
    set_rules(envs, EpisodeRules(horizon=100, terminate_on_success=True))
    observations, _ = envs.reset(seed=0)
    lengths = np.zeros(4, dtype=np.int64)
    for _ in range(100):
        # Only drawer-close acts, so that reach never succeeds.
        actions = scripted_actions(TASKS, COPIES, observations)
        actions[2:] = 0.0
        observations, _, terminations, truncations, infos = envs.step(actions)
        lengths += 1
        if terminations.any():
            break
        assert set(infos) == {"success", "valid"}
    assert not terminations[2:].any()
    assert not truncations.any()
    np.testing.assert_array_equal(infos["_final_obs"], terminations)
    np.testing.assert_array_equal(infos["_final_info"], terminations)
    np.testing.assert_array_equal(infos["success"], terminations.astype(np.float32))
    going_on = ~terminations
    np.testing.assert_array_equal(infos["final_obs"][going_on], observations[going_on])
    assert (infos["final_obs"][terminations] != observations[terminations]).any(axis=1).all()
    final = infos["final_info"]
    for mask in (final["_success"], final["_episode"], final["episode"]["_r"]):
        np.testing.assert_array_equal(mask, terminations)
    np.testing.assert_array_equal(final["success"], terminations.astype(np.float32))
    np.testing.assert_array_equal(final["episode"]["l"], np.where(terminations, lengths, 0))
    assert (final["episode"]["r"][going_on] == 0).all()
    assert (final["episode"]["r"][terminations] > 0).all()
    assert not envs.step(np.zeros((4, 4)))[4]["success"][terminations].any()


def test_invalid_rows_are_marked_and_leave_the_others_alone(
    envs: MultiTaskVectorEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = random_actions(1)[0]
    envs.reset(seed=2)
    expected = envs.step(action)
    envs.reset(seed=2)
    broken_sim = sawyer(sub_envs(envs)[3])
    nothing = np.full(39, np.nan), np.nan, False, False, {"success": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(broken_sim, "step", lambda _: nothing)
        action[1, 2] = np.nan
        observations, rewards, terminations, truncations, infos = envs.step(action)
    np.testing.assert_array_equal(infos["valid"], [True, False, True, False])
    np.testing.assert_array_equal(truncations, [False, False, False, True])
    assert not terminations.any()
    for row in (0, 2):
        np.testing.assert_array_equal(observations[row], expected[0][row])
        assert rewards[row] == expected[1][row]
    for array in (observations, rewards, infos["final_obs"], infos["final_info"]["episode"]["r"]):
        assert np.isfinite(array).all()
    assert envs.step(random_actions(1)[0])[4]["valid"].all()


def rollout(envs: MultiTaskVectorEnv, seed: int | None) -> NDArray[np.float32]:
    observations = [envs.reset(seed=seed)[0]]
    observations += [envs.step(action)[0] for action in random_actions(HORIZON + 2, envs.num_envs)]
    return np.stack(observations)


def test_seeds(envs: MultiTaskVectorEnv) -> None:
    first, action = rollout(envs, 0), envs.action_space.sample()
    continued, next_action = rollout(envs, None), envs.action_space.sample()
    again = rollout(envs, 0)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(action, envs.action_space.sample())
    assert (next_action != action).any()
    other = rollout(envs, 1)
    for sequence in (continued, other):
        assert (sequence[0] != first[0]).any(axis=1).all()
    # The copies of a task start from different goals.
    starts = first[0].reshape(2, 2, 39)
    assert (starts[:, 0] != starts[:, 1]).any(axis=1).all()


def test_constructor_seeds_as_reset_does(envs: MultiTaskVectorEnv) -> None:
    fresh = MultiTaskVectorEnv(("reach-v3",), seed=5, envs_per_task=COPIES, horizon=HORIZON)
    action = fresh.action_space.sample()
    alone = np.stack([fresh.reset()[0], fresh.step(np.zeros((2, 4)))[0]])
    fresh.reset(seed=5)
    np.testing.assert_array_equal(fresh.action_space.sample(), action)
    fresh.close()
    beside = np.stack([envs.reset(seed=5)[0], envs.step(np.zeros((4, 4)))[0]])
    # Also: a task's streams do not depend on the tasks trained beside it.
    np.testing.assert_array_equal(alone, beside[:, 2:])


def test_asynchronous_step_is_the_step(envs: MultiTaskVectorEnv) -> None:
    expected = rollout(envs, 3)
    actions = random_actions(HORIZON + 2)
    np.testing.assert_array_equal(envs.reset(seed=3)[0], expected[0])
    for action, after in zip(actions, expected[1:], strict=True):
        buffer = action.copy()
        envs.step_async(buffer)
        buffer[:] = 0.0
        np.testing.assert_array_equal(envs.step_wait()[0], after)


def test_resting_environments_stay_where_they_are(envs: MultiTaskVectorEnv) -> None:
    actions, resting = random_actions(HORIZON), np.array([False, True, False, True])
    expected = [envs.reset(seed=3)[0], *(envs.step(action)[0] for action in actions[:2])]
    envs.reset(seed=3)
    envs.step(actions[0])
    for _ in range(HORIZON):
        observations, rewards, terminated, truncated, infos = envs.step(actions[1], resting)
        np.testing.assert_array_equal(observations[resting], expected[1][resting])
        for results in (rewards, terminated, truncated, infos["valid"], infos["success"]):
            assert not results[resting].any()
        assert infos["valid"][~resting].all()
    # The others have begun another episode meanwhile.
    observations = envs.step(actions[1])[0]
    np.testing.assert_array_equal(observations[resting], expected[2][resting])
    assert envs.state()["lengths"].tolist() == [2, 2, 2, 2]


@pytest.fixture
def scaled_envs(
    envs: MultiTaskVectorEnv, monkeypatch: pytest.MonkeyPatch
) -> tuple[MultiTaskVectorEnv, RunningVarianceScaler]:
    """The environments with scaled rewards, and what scales them."""
    scaler = RunningVarianceScaler(4)
    monkeypatch.setattr(envs, "reward_scaler", scaler)
    return envs, scaler


def test_scaling_changes_the_rewards_alone(
    envs: MultiTaskVectorEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = random_actions(2 * HORIZON)
    envs.reset(seed=0)
    plain = [envs.step(action) for action in actions]
    monkeypatch.setattr(envs, "reward_scaler", RunningVarianceScaler(4))
    envs.reset(seed=0)
    reference = RunningVarianceScaler(4)
    for action, expected in zip(actions, plain, strict=True):
        observations, rewards, _, _, infos = envs.step(action)
        np.testing.assert_array_equal(
            rewards, reference.scale(expected[1], np.ones(4, np.bool_)), strict=True
        )
        np.testing.assert_array_equal(observations, expected[0])
        if "final_info" in infos:
            returns, plain_returns = (
                each["final_info"]["episode"]["r"] for each in (infos, expected[4])
            )
            np.testing.assert_array_equal(returns, plain_returns)
    assert (rewards[2:] != expected[1][2:]).all()


def test_a_seed_restarts_the_scale_and_its_absence_continues_it(
    scaled_envs: tuple[MultiTaskVectorEnv, RunningVarianceScaler],
) -> None:
    envs, scaler = scaled_envs
    action = random_actions(1)[0]
    envs.reset(seed=0)
    first = envs.step(action)[1]
    mean = scaler.mean
    envs.reset()
    np.testing.assert_array_equal(scaler.mean, mean)
    envs.reset(seed=0)
    np.testing.assert_array_equal(envs.step(action)[1], first)


def test_broken_steps_leave_the_scale_alone(
    scaled_envs: tuple[MultiTaskVectorEnv, RunningVarianceScaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    envs, scaler = scaled_envs
    action = random_actions(1)[0]
    action[1, 2] = np.nan
    nothing = np.full(39, np.nan), np.nan, False, False, {"success": 0.0}
    envs.reset(seed=2)
    monkeypatch.setattr(sawyer(sub_envs(envs)[3]), "step", lambda _: nothing)
    rewards = envs.step(action)[1]
    assert rewards[[1, 3]].tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(scaler.variance != 1, [True, False, True, False])


def test_the_scale_of_a_copy_is_its_own(
    scaled_envs: tuple[MultiTaskVectorEnv, RunningVarianceScaler],
) -> None:
    beside, _ = scaled_envs
    alone = MultiTaskVectorEnv(
        ("reach-v3",), seed=5, horizon=HORIZON, reward_normalization="running_variance"
    )
    alone.reset()
    beside.reset(seed=5)
    for action in random_actions(HORIZON + 2):
        reward = alone.step(action[2:3])[1]
        np.testing.assert_array_equal(reward, beside.step(action)[1][2:3])
    alone.close()


def test_calls_out_of_order(envs: MultiTaskVectorEnv) -> None:
    envs.reset()
    with pytest.raises(RuntimeError, match="without step_async"):
        envs.step_wait()
    envs.step_async(np.zeros((4, 4)))
    with pytest.raises(RuntimeError, match="still waits for its step_wait"):
        envs.step_async(np.zeros((4, 4)))
    with pytest.raises(RuntimeError, match="still waits for its step_wait"):
        envs.reset()
    envs.step_wait()
    with pytest.raises(ValueError, match=r"shape \(4, 4\), got \(4,\)"):
        envs.step(np.zeros(4))


def test_step_before_reset_and_after_close() -> None:
    envs = MultiTaskVectorEnv(["reach-v3"], seed=0)
    with pytest.raises(RuntimeError, match="before the first reset"):
        envs.step(np.zeros((1, 4)))
    envs.reset()
    envs.close()
    envs.close()
    with pytest.raises(RuntimeError, match="closed"):
        envs.step(np.zeros((1, 4)))
    with pytest.raises(RuntimeError, match="closed"):
        envs.reset()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ["reech-v3"]}, "did you mean 'reach-v3'"),
        ({"tasks": []}, "tasks is empty"),
        ({"horizon": 0}, "horizon must be"),
        ({"envs_per_task": 0}, "envs_per_task must be at least 1, got 0"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"goal_mode": "random"}, "unknown goal_mode 'random'"),
        ({"reward_version": "v4"}, "unknown reward_version 'v4'"),
        ({"reward_normalization": "std"}, "unknown reward_normalization 'std'"),
        ({"seed": -1}, "seed is -1; it must be an integer from 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultiTaskVectorEnv(**{"tasks": ["reach-v3"], "seed": 0, **arguments})


def test_import_needs_no_torch() -> None:
    code = "import sys, mtrl_ntk.rl.envs; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def scripted_success(tasks: tuple[str, ...]) -> NDArray[np.float32]:
    envs = MultiTaskVectorEnv(tasks, seed=0)
    observations, _ = envs.reset()
    latched: list[NDArray[np.float32]] = []
    for _ in range(500):
        step = envs.step(scripted_actions(tasks, 1, observations))
        observations = step[0]
        latched.append(step[4]["success"])
    envs.close()
    assert step[3].all()
    assert (np.diff(np.stack(latched), axis=0) >= 0).all()
    np.testing.assert_array_equal(step[4]["final_info"]["success"], latched[-1])
    success: NDArray[np.float32] = latched[-1]
    return success


@pytest.mark.filterwarnings("ignore:Constant")
def test_scripted_policies_succeed() -> None:
    assert scripted_success(("drawer-close-v3", "window-open-v3")).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Constant")
def test_scripted_policies_succeed_on_mt10() -> None:
    assert scripted_success(BENCHMARKS["MT10"]).all()
