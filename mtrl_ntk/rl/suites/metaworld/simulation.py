"""Meta-World's stock environments, or their lean equals, as simulations of a suite.

What is set right around them:

- their observation space says that the goal is zero, so its bounds are used for nothing;
- they ignore ``reset(seed=...)`` and let all tasks share one stream, so goals are drawn here;
- their promise to catch an unstable simulation is dead code, so that is noticed here.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl_ntk.rl.heap import return_freed_memory
from mtrl_ntk.rl.suites.metaworld.camera import SawyerCamera
from mtrl_ntk.rl.suites.metaworld.lean_env import is_proven, lean_class
from mtrl_ntk.rl.suites.suite import Outcome

RewardVersion = Literal["v1", "v2"]

NUM_GOALS = 50
"""Goals of a task, as in Meta-World's MT benchmarks."""
_UNSTABLE = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]


class SawyerSimulation:
    """A task of Meta-World.

    Args:
        env: Its environment, stock or lean, as :func:`make_sim` makes it.
    """

    def __init__(self, env: SawyerXYZEnv) -> None:
        self.env = env

    def draw_goals(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """The random vectors ``[50, dim]`` that place the task's object and goal."""
        return draw_goals(self.env, rng)

    def reset(self, goal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Starts an episode with a goal; returns the first observation."""
        set_goal(self.env, goal)
        return self.env.reset()[0]

    def step(self, action: NDArray[np.float32]) -> Outcome:
        """Takes a step; the stock environments never end an episode of their own."""
        observation, reward, _, _, info = self.env.step(action)
        # MuJoCo answers a diverged state by resetting it, so the observation looks fine: only the
        # counters of its warnings tell.
        warnings = self.env.data.warning.number
        is_stable = not any(warnings[index] for index in _UNSTABLE)
        return Outcome(observation, float(reward), bool(info["success"]), is_stable=is_stable)

    def camera(self, name: str, size: int) -> SawyerCamera:
        """One of the model's cameras."""
        return SawyerCamera(self.env, name, size)

    def close(self) -> None:
        """Frees what the environment's renderer holds."""
        self.env.close()  # type: ignore[no-untyped-call]


def make_sim(name: str, reward_version: str = "v2", *, lean: bool = True) -> SawyerXYZEnv:
    """The environment of a task, with the goal in its observations as in MT benchmarks.

    Args:
        name: Task name such as ``"reach-v3"``.
        reward_version: Meta-World reward functions.
        lean: Whether to use the lean environment, provided that it is proven for what is installed,
            instead of the stock one.
    """
    is_lean = lean and is_proven()
    sim_class = lean_class(name) if is_lean else ALL_V3_ENVIRONMENTS[name]
    sim = sim_class(reward_function_version=reward_version)
    sim._partially_observable = False
    # It caches bounds that zero the goal, and clips observations to them.
    sim.__dict__.pop("sawyer_observation_space", None)
    return_freed_memory()
    return sim


def draw_goals(sim: SawyerXYZEnv, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws the ``[50, dim]`` random vectors that place a task's object and goal.

    The library's own resets draw them, so that their rejection loops apply, but the hand is moved
    for one step instead of 50: no draw depends on it.

    Args:
        sim: Stock environment; needs a goal and a reset before it is stepped again.
        rng: Advanced by the draws.
    """
    sim.np_random = rng
    sim.seeded_rand_vec = True
    sim._freeze_rand_vec = False
    sim._set_task_called = True
    sim._reset_hand = partial(sim._reset_hand, steps=1)  # type: ignore[method-assign]
    try:
        goals = np.stack([_draw_goal(sim) for _ in range(NUM_GOALS)])
    finally:
        del sim._reset_hand
    if len(np.unique(goals, axis=0)) != NUM_GOALS:
        raise RuntimeError(f"{type(sim).__name__} drew equal goals: {goals}")
    return goals


def _draw_goal(sim: SawyerXYZEnv) -> NDArray[np.float64]:
    sim.reset()
    return np.array(sim._last_rand_vec, dtype=np.float64)


def set_goal(sim: SawyerXYZEnv, goal: NDArray[np.float64]) -> None:
    """Makes resets use ``goal [dim]``, as the library's ``set_task`` does with a pickle."""
    # A copy: simulations keep views of the vector and may write to them.
    sim._last_rand_vec = goal.copy()
    sim._freeze_rand_vec = True
    sim._set_task_called = True
