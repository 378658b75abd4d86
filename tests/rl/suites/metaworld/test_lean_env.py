"""The lean environments against the stock ones, bit for bit, and their fallback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import DTypeLike, NDArray

from mtrl_ntk.rl.envs import BENCHMARKS, EnvConfig, MultiTaskVectorEnv, make_envs
from mtrl_ntk.rl.envs.bundle import EnvBundle
from mtrl_ntk.rl.suites.metaworld import lean_env
from mtrl_ntk.rl.suites.metaworld.lean_env import LeanSawyerEnv
from mtrl_ntk.rl.suites.metaworld.simulation import RewardVersion, draw_goals, make_sim, set_goal
from tests.sameness import is_same
from tests.simulations import sawyer

# The library's policies say that their actions may be too large.
pytestmark = pytest.mark.filterwarnings("ignore:Constant")

Simulation = Any

SOME_TASKS = ("push-v3", "pick-place-v3", "door-open-v3", "window-close-v3", "stick-pull-v3")
"""Those with the most Python, one that resets the hand in its own way, and one with two objects."""


@cache
def lean_and_stock(
    name: str, reward_version: RewardVersion = "v2"
) -> tuple[Simulation, Simulation]:
    return make_lean_and_stock(name, reward_version)


def make_lean_and_stock(name: str, reward_version: RewardVersion) -> tuple[Simulation, Simulation]:
    lean, stock = (make_sim(name, reward_version, lean=is_lean) for is_lean in (True, False))
    assert isinstance(lean, LeanSawyerEnv)
    assert not isinstance(stock, LeanSawyerEnv)
    return lean, stock


def assert_same_step(lean: Simulation, stock: Simulation, action: NDArray[Any]) -> NDArray[Any]:
    """Steps both and compares all results; returns the observation."""
    result, expected = lean.step(action.copy()), stock.step(action.copy())
    assert is_same(result, expected), f"{result} is not {expected}"
    observation: NDArray[np.float64] = expected[0]
    return observation


def policy_action(name: str, observation: NDArray[np.float64]) -> NDArray[np.float64]:
    policy: Any = ENV_POLICY_MAP[name]
    return np.asarray(policy().get_action(observation), np.float64)


def assert_same_episode(
    name: str,
    sims: tuple[Simulation, Simulation],
    goal: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    scripted: int,
    random: int,
    dtype: DTypeLike,
) -> None:
    """Compares an episode: the policy's steps, and then steps at random, some out of range."""
    for sim in sims:
        set_goal(sim, goal)
    results = [sim.reset() for sim in sims]
    assert is_same(*results)
    observation = results[0][0]
    for step in range(scripted + random):
        is_scripted = step < scripted
        action = policy_action(name, observation) if is_scripted else rng.uniform(-1.5, 1.5, 4)
        observation = assert_same_step(*sims, action.astype(dtype))
    assert is_same(*map(physics_state, sims))


def physics_state(sim: Simulation) -> tuple[NDArray[np.float64], ...]:
    """All that the next step depends on, the solver's warm start included, and what is drawn."""
    kind, data = mujoco.mjtState.mjSTATE_INTEGRATION, sim.data
    state = np.empty(mujoco.mj_stateSize(sim.model, kind))
    mujoco.mj_getState(sim.model, data, state, kind)
    return state, data.xpos, data.geom_xpos, data.geom_xmat, data.site_xpos, data.efc_force


@pytest.mark.parametrize(("reward_version", "seed"), [("v2", 0), ("v1", 1)])
@pytest.mark.parametrize("name", SOME_TASKS)
def test_equals_the_stock_environment(
    name: str, reward_version: RewardVersion, seed: int, seed_offset: int
) -> None:
    sims = lean_and_stock(name, reward_version)
    seed += seed_offset
    rng = np.random.default_rng(seed)
    goals = draw_goals(sims[1], np.random.default_rng(seed))
    for goal, dtype in zip(rng.choice(goals, 2), (np.float32, np.float64), strict=True):
        assert_same_episode(name, sims, goal, rng, scripted=70, random=30, dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("reward_version", "seed"), [("v2", 2), ("v1", 3)])
@pytest.mark.parametrize("name", BENCHMARKS["MT50"])
def test_equals_the_stock_environment_in_every_task(
    name: str, reward_version: RewardVersion, seed: int, seed_offset: int
) -> None:
    sims = make_lean_and_stock(name, reward_version)
    seed += seed_offset
    rng = np.random.default_rng(seed)
    goals = draw_goals(sims[1], np.random.default_rng(seed))
    # Only rewards depend on the version.
    for goal in rng.choice(goals, 2 if reward_version == "v2" else 1):
        assert_same_episode(name, sims, goal, rng, scripted=0, random=60, dtype=np.float32)
        assert_same_episode(name, sims, goal, rng, scripted=120, random=80, dtype=np.float64)
    if reward_version == "v1":
        return
    np.testing.assert_array_equal(draw_goals(sims[0], np.random.default_rng(seed)), goals)
    assert_same_episode(name, sims, goals[0], rng, scripted=400, random=100, dtype=np.float32)
    for sim in sims:
        with pytest.raises(ValueError, match="must reset the env"):
            sim.step(np.zeros(4))


def test_draws_the_same_goals_and_starts_the_same_episodes_unset() -> None:
    sims = make_lean_and_stock("pick-place-v3", "v2")
    goals = [draw_goals(sim, np.random.default_rng(3)) for sim in sims]
    assert is_same(*goals)
    assert is_same(*(sim.reset() for sim in sims))
    assert is_same(*(sim._last_rand_vec for sim in sims))


def test_a_broken_simulation_breaks_the_same_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # MuJoCo writes its warning into the working directory.
    monkeypatch.chdir(tmp_path)
    sims = lean_and_stock("push-v3")
    goal = draw_goals(sims[1], np.random.default_rng(0))[0]
    for sim in sims:
        set_goal(sim, goal)
        sim.reset()
        sim.data.qvel[0] = np.nan
    for _ in range(3):
        assert_same_step(*sims, np.full(4, 0.5))
    assert is_same(*(sim.reset() for sim in sims))
    assert_same_step(*sims, np.full(4, 0.5))


def test_refuses_what_the_stock_environment_refuses() -> None:
    for sim in make_lean_and_stock("reach-v3", "v2"):
        with pytest.raises(
            RuntimeError, match=r"You must call env\.set_task before using env\.step"
        ):
            sim.step(np.zeros(4))
        set_goal(sim, np.array([0.0, 0.6, 0.02, 0.1, 0.8, 0.2]))
        sim.reset()
        with pytest.raises(AssertionError, match="size 4, got 3"):
            sim.step(np.zeros(3))


@pytest.mark.parametrize("name", ["push-v3", pytest.param("pick-place-v3", marks=pytest.mark.slow)])
def test_knows_what_is_touched(name: str) -> None:
    sim, _ = lean_and_stock(name)
    set_goal(sim, draw_goals(sim, np.random.default_rng(0))[4])
    observation = sim.reset()[0]
    touched = []
    for _ in range(60):
        observation = sim.step(policy_action(name, observation))[0]
        geoms = [SawyerXYZEnv.touching_object(sim, geom) for geom in range(sim.model.ngeom)]
        assert [sim.touching_object(geom) for geom in range(sim.model.ngeom)] == geoms
        touched += geoms
    assert any(touched)
    assert not sim.touching_object(None)


def test_the_library_stays_as_it_is() -> None:
    class_before = dict(vars(SawyerXYZEnv))
    task_before = dict(vars(ALL_V3_ENVIRONMENTS["push-v3"]))
    globals_before = dict(ALL_V3_ENVIRONMENTS["push-v3"].reset_model.__globals__)
    make_sim("push-v3")
    assert dict(vars(SawyerXYZEnv)) == class_before
    assert dict(vars(ALL_V3_ENVIRONMENTS["push-v3"])) == task_before
    assert ALL_V3_ENVIRONMENTS["push-v3"].reset_model.__globals__ == globals_before
    assert globals_before["np"] is np
    assert isinstance(make_sim("push-v3"), ALL_V3_ENVIRONMENTS["push-v3"])


@pytest.fixture
def other_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation that nothing was proven for."""
    installed = {"metaworld": "3.2.0", "mujoco": "3.3.0"}
    monkeypatch.setattr(lean_env, "version", installed.__getitem__)
    lean_env.is_proven.cache_clear()
    yield
    lean_env.is_proven.cache_clear()


@pytest.mark.usefixtures("other_version")
def test_another_version_gets_stock_environments_and_one_warning() -> None:
    said = (
        "proven for metaworld 3.1.1 and mujoco 3.3.0; installed are metaworld 3.2.0 and mujoco "
        "3.3.0, so the stock environments are used"
    )
    with pytest.warns(UserWarning, match=said):
        sim = make_sim("reach-v3")
    assert type(sim) is type(make_sim("reach-v3")) is ALL_V3_ENVIRONMENTS["reach-v3"]


@pytest.mark.usefixtures("other_version")
def test_workers_are_told_of_another_version_and_need_not_warn() -> None:
    with pytest.warns(UserWarning, match="lean environments"):
        vector = MultiTaskVectorEnv(["reach-v3"], seed=0)
    assert isinstance(vector._stepper, EnvBundle)
    assert not any(env.rules.lean for env in vector._stepper.envs.values())
    vector.close()


@pytest.mark.usefixtures("other_version")
def test_stock_environments_need_no_warning() -> None:
    assert type(make_sim("reach-v3", lean=False)) is ALL_V3_ENVIRONMENTS["reach-v3"]


def test_a_version_that_nobody_states_is_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_env, "PROVEN_VERSIONS", {"no-such-package": "1.0"})
    with pytest.warns(UserWarning, match="installed are no-such-package .unknown."):
        assert not lean_env.is_proven.__wrapped__()


def test_vector_environments_are_lean_by_choice_and_equal() -> None:
    config = EnvConfig(tasks=("push-v3", "drawer-close-v3"), horizon=4, workers=0)
    assert config.lean
    vectors = [make_envs(replace(config, lean=lean), seed=5) for lean in (True, False)]
    for vector, is_lean in zip(vectors, (True, False), strict=True):
        assert isinstance(vector._stepper, EnvBundle)
        for env in vector._stepper.envs.values():
            assert isinstance(sawyer(env), LeanSawyerEnv) is is_lean
    assert is_same(*(vector.reset() for vector in vectors))
    for action in np.random.default_rng(0).uniform(-1, 1, (6, 2, 4)):
        assert is_same(*(vector.step(action) for vector in vectors))
    for vector in vectors:
        vector.close()
