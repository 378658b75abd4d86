"""One task's environment against the stock library that it drives."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.types import Task
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs import BENCHMARKS
from mtrl_ntk.rl.envs.task_env import Step, TaskEnv
from mtrl_ntk.rl.suites.metaworld.simulation import NUM_GOALS, draw_goals, make_sim, set_goal
from mtrl_ntk.rl.suites.suite import EpisodeRules
from tests.simulations import sawyer

Simulation = Any


@cache
def shared_env(name: str) -> TaskEnv:
    return TaskEnv(name, seed=0)


@pytest.fixture
def make_env(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TaskEnv]:
    """Environments on shared simulations, since loading a model takes most of a test's time."""

    def make(name: str = "reach-v3", *, seed: int = 0, **rules: Any) -> TaskEnv:  # noqa: ANN401
        env = shared_env(name)
        monkeypatch.setattr(env, "rules", EpisodeRules(**rules))
        monkeypatch.setattr(env, "_copy", 0)
        monkeypatch.setattr(env, "_copies", 1)
        env.reseed(seed)
        return env

    return make


@cache
def stock_sim(name: str, reward_version: str = "v2") -> Simulation:
    return ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)


def set_stock_task(sim: Simulation, name: str, goal: NDArray[np.float64]) -> None:
    data = {
        "rand_vec": goal,
        "env_cls": ALL_V3_ENVIRONMENTS[name],
        "partially_observable": False,
    }
    sim.set_task(Task(env_name=name, data=pickle.dumps(data)))


def full_reset_goals(sim: Simulation, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """The goals as the library draws them: by whole resets with all of the hand's physics."""
    sim._freeze_rand_vec = False
    sim._set_task_called = True
    sim.seeded_rand_vec = True
    sim.np_random = rng
    goals = []
    for _ in range(count):
        sim.reset()
        goals.append(sim._last_rand_vec)
    return np.stack(goals)


def scripted_then_random(name: str, observation: NDArray[Any], step: int) -> NDArray[np.float32]:
    if step < 80:
        policy: Any = ENV_POLICY_MAP[name]
        action = policy().get_action(observation.astype(np.float64))
        return np.asarray(np.clip(action, -1, 1), np.float32)
    return np.random.default_rng(step).uniform(-1, 1, 4).astype(np.float32)


@pytest.mark.filterwarnings("ignore:Constant")
@pytest.mark.parametrize("name", ["reach-v3", "pick-place-v3", "door-open-v3", "drawer-close-v3"])
def test_equals_the_stock_environment_bit_for_bit(
    name: str, make_env: Callable[..., TaskEnv]
) -> None:
    env, stock = make_env(name), stock_sim(name)
    for _ in range(2):
        observation = env.reset()
        set_stock_task(stock, name, env.goals[env.goal_index])
        expected = stock.reset()[0]
        np.testing.assert_array_equal(observation, expected.astype(np.float32))
        success = False
        for index in range(110):
            action = scripted_then_random(name, observation, index)
            step = env.step(action)
            expected, reward, _, _, info = stock.step(action)
            success = success or bool(info["success"])
            observation = step.observation
            np.testing.assert_array_equal(observation, expected.astype(np.float32))
            assert (step.reward, step.success) == (float(reward), success)
            assert step.valid


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS["MT50"])
def test_reset_depends_on_the_goal_alone(name: str) -> None:
    used, fresh = make_sim(name), make_sim(name)
    goals = draw_goals(used, np.random.default_rng(0))
    np.testing.assert_array_equal(
        full_reset_goals(stock_sim(name), np.random.default_rng(0), 2), goals[:2]
    )
    rng = np.random.default_rng(1)
    set_goal(used, goals[7])
    used.reset()
    for _ in range(10):
        used.step(rng.uniform(-1, 1, 4).astype(np.float32))
    for sim in (used, fresh):
        set_goal(sim, goals[3])
    np.testing.assert_array_equal(used.reset()[0], fresh.reset()[0])
    for _ in range(10):
        action = rng.uniform(-1, 1, 4).astype(np.float32)
        after, expected = used.step(action), fresh.step(action)
        np.testing.assert_array_equal(after[0], expected[0])
        assert after[1] == expected[1]


@pytest.mark.parametrize("name", ["reach-v3", "drawer-close-v3"])
def test_goals_are_those_of_full_resets(name: str) -> None:
    sim = sawyer(shared_env(name))
    goals = draw_goals(sim, np.random.default_rng(5))
    expected = full_reset_goals(stock_sim(name), np.random.default_rng(5), NUM_GOALS)
    np.testing.assert_array_equal(goals, expected)
    assert len(np.unique(goals, axis=0)) == NUM_GOALS


def test_goals_far_enough_apart_by_the_rejection_loop(make_env: Callable[..., TaskEnv]) -> None:
    goals = np.concatenate([make_env("pick-place-v3", seed=seed).goals for seed in range(4)])
    distances = np.linalg.norm(goals[:, :2] - goals[:, 3:5], axis=1)
    assert distances.min() >= 0.15
    space: Any = sawyer(shared_env("pick-place-v3"))._random_reset_space
    unchecked = np.random.default_rng(0).uniform(space.low, space.high, (200, 6))
    assert np.linalg.norm(unchecked[:, :2] - unchecked[:, 3:5], axis=1).min() < 0.15


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


def test_reset_activates_the_goal_and_shows_it(make_env: Callable[..., TaskEnv]) -> None:
    env = make_env(goal_mode="in_order")
    for index in range(3):
        observation = env.reset()
        np.testing.assert_array_equal(observation[36:39], env.goals[index, 3:].astype(np.float32))
        # Clipping to the library's first bounds would zero the goal.
        np.testing.assert_array_equal(env.step(np.zeros(4)).observation[36:39], observation[36:39])
    assert env.goals[0, 3:].all()


def test_simulation_cannot_change_the_goals(make_env: Callable[..., TaskEnv]) -> None:
    env = make_env("push-v3")
    before = env.goals.copy()
    for _ in range(3):
        env.reset()
        simulation: Simulation = sawyer(env)
        simulation._last_rand_vec[:] = 0.0
        np.testing.assert_array_equal(env.goals, before)


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


def test_state_that_mujoco_reset_by_itself_is_noticed(
    make_env: Callable[..., TaskEnv], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # MuJoCo writes its warning into the working directory.
    monkeypatch.chdir(tmp_path)
    env = make_env()
    first = env.reset()
    sawyer(env).data.qvel[0] = np.nan
    step = env.step(np.zeros(4))
    assert (step.valid, step.truncated) == (False, True)
    np.testing.assert_array_equal(step.observation, first)
    assert np.isfinite(env.reset()).all()
    assert env.step(np.zeros(4)).valid


def test_observations_leave_the_library_s_bounds(make_env: Callable[..., TaskEnv]) -> None:
    observation = make_env().reset()
    bounds = stock_sim("reach-v3").__class__().observation_space
    assert not bounds.contains(observation.astype(np.float64))
    assert observation.dtype == np.float32
    assert observation.shape == (39,)


def test_reward_versions(make_env: Callable[..., TaskEnv]) -> None:
    old, new = TaskEnv("reach-v3", EpisodeRules(reward_version="v1"), seed=0), make_env()
    stock = stock_sim("reach-v3", "v1")
    old.reset()
    new.reset()
    set_stock_task(stock, "reach-v3", old.goals[old.goal_index])
    stock.reset()
    for _ in range(5):
        action = np.array([0.3, 1.0, -0.2, 0.0], np.float32)
        reward = old.step(action).reward
        assert reward == float(stock.step(action)[1])
        assert reward != new.step(action).reward


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
