"""Meta-World's tasks against the stock library that they drive."""

from __future__ import annotations

import pickle
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

from mtrl_ntk.rl.envs import BENCHMARKS
from mtrl_ntk.rl.envs.task_env import TaskEnv
from mtrl_ntk.rl.suites.metaworld.simulation import NUM_GOALS, draw_goals, make_sim, set_goal
from mtrl_ntk.rl.suites.suite import EpisodeRules
from tests.simulations import sawyer, shared_env

Simulation = Any


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
