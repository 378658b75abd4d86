"""One Meta-World task as an episodic environment: goals, seeds, horizon, success and guards.

The stock Sawyer environment is used as it is, or as its lean equal. What is set right around it:

- its observation space says that the goal is zero, so its bounds are used for nothing;
- it passes the gripper action on unclipped, and rewards read it, so actions are clipped here;
- it ignores ``reset(seed=...)`` and lets all tasks share one stream, so goals are drawn here;
- its ``success`` is that of the step alone, so it is latched here over the episode;
- its promise to catch an unstable simulation is dead code, so that is caught here.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3, MT25_V3, MT50_V3
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import ArrayLike, NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs.heap import return_freed_memory
from mtrl_ntk.rl.envs.lean_env import is_proven, lean_class

GoalMode = Literal["resampled", "fixed", "in_order"]
RewardVersion = Literal["v1", "v2"]

OBSERVATION_DIM = 39
ACTION_DIM = 4
NUM_GOALS = 50
"""Goals of a task, as in Meta-World's MT benchmarks."""
MAX_HORIZON = 500
"""Environment steps after which the stock environments refuse to go on."""

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "MT10": tuple(MT10_V3),
    "MT25": tuple(MT25_V3),
    "MT50": tuple(MT50_V3),
}
"""Task names of each benchmark, in the library's order."""

_TASK_INDEX = {name: index for index, name in enumerate(ALL_V3_ENVIRONMENTS)}
_GOALS_STREAM, _FIXED_STREAM, _RESAMPLING_STREAM = range(3)
_UNSTABLE = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]


def task_names(benchmark: str = "MT10", tasks: Iterable[str] | None = None) -> tuple[str, ...]:
    """Names of the tasks to train: the benchmark's, or the given ones after a check.

    Args:
        benchmark: Key of ``BENCHMARKS``; not read when ``tasks`` is given.
        tasks: Names such as ``"reach-v3"``, in the order wanted; None for the benchmark's.

    Raises:
        ConfigError: If a name is unknown or occurs twice, or if ``tasks`` is empty.
    """
    if tasks is None:
        _check_known(benchmark, BENCHMARKS, "benchmark")
        return BENCHMARKS[benchmark]
    names = tuple(tasks)
    if not names:
        raise ConfigError("tasks is empty: give at least one task name, such as reach-v3")
    for name in names:
        _check_known(name, BENCHMARKS["MT50"], "task")
        if names.count(name) > 1:
            raise ConfigError(f"task {name!r} is given twice; use envs_per_task for more copies")
    return names


def _check_known(name: str, possible: Iterable[str], kind: str) -> None:
    possible = tuple(possible)
    if name in possible:
        return
    close = difflib.get_close_matches(name, possible, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(f"unknown {kind} {name!r}; {hint}possible: {', '.join(possible)}")


@dataclass(frozen=True)
class EpisodeRules:
    """What an episode is: its length, reward, goal and end.

    Attributes:
        horizon: Environment steps after which an episode is truncated, 1 to 500.
        reward_version: Meta-World reward functions.
        goal_mode: ``resampled`` draws one of the task's 50 goals at each reset; ``fixed`` keeps one
            per seed and task, the same for all copies; ``in_order`` lets copy c of C copies run
            goals c, c + C, c + 2C, ... modulo 50.
        terminate_on_success: Whether an episode terminates at its first success.
        lean: Whether to save time in the simulation's Python, which changes no bit of the results.
    """

    horizon: int = MAX_HORIZON
    reward_version: RewardVersion = "v2"
    goal_mode: GoalMode = "resampled"
    terminate_on_success: bool = False
    lean: bool = True

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        if not 1 <= self.horizon <= MAX_HORIZON:
            raise ConfigError(f"horizon must be 1 to {MAX_HORIZON} steps, got {self.horizon}")
        _check_known(self.reward_version, get_args(RewardVersion), "reward_version")
        _check_known(self.goal_mode, get_args(GoalMode), "goal_mode")


class Step(NamedTuple):
    """What one environment step gave; the episode fields count up to and including it."""

    observation: NDArray[np.float32]
    """Next observation ``[39]``, never that of a reset."""
    reward: float
    terminated: bool
    truncated: bool
    success: bool
    """Whether the episode has succeeded at this or an earlier step."""
    valid: bool
    """False: the action or the simulation was broken, and the transition must not be learnt."""
    episode_return: float
    """Undiscounted."""
    episode_length: int
    """Environment steps."""


class TaskEnv:
    """One task, one stock simulation, and random streams that nothing else shares.

    The streams depend on the seed, the task and the copy, and not on which other tasks are trained
    beside it. ``goals`` depends on the seed and the task alone.

    Args:
        name: Task name such as ``"reach-v3"``.
        rules: What an episode is.
        seed: Non-negative seed of the goals and of their draws.
        copy: Index of this environment among the copies of its task.
        copies: Number of copies; ``in_order`` deals the goals out among them.
        goals: The ``goals`` of another copy with the same seed, to save the time of drawing them.
    """

    def __init__(
        self,
        name: str,
        rules: EpisodeRules | None = None,
        *,
        seed: int,
        copy: int = 0,
        copies: int = 1,
        goals: NDArray[np.float64] | None = None,
    ) -> None:
        self.name = name
        self.rules = EpisodeRules() if rules is None else rules
        self.sim = make_sim(name, self.rules.reward_version, lean=self.rules.lean)
        self._copy = copy
        self._copies = copies
        self.reseed(seed, goals)

    def reseed(self, seed: int, goals: NDArray[np.float64] | None = None) -> None:
        """Draws new goals ``[50, dim]`` and restarts every stream; takes effect at the next reset.

        Args:
            seed: As in the constructor.
            goals: As in the constructor.
        """
        if goals is None:
            goals = draw_goals(self.sim, self._stream(seed, _GOALS_STREAM))
        self.goals = goals
        self._fixed_goal = int(self._stream(seed, _FIXED_STREAM).integers(NUM_GOALS))
        self._resampling = self._stream(seed, _RESAMPLING_STREAM, self._copy)
        self._episodes = 0

    def _stream(self, seed: int, *key: int) -> np.random.Generator:
        spawn_key = (_TASK_INDEX[self.name], *key)
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))

    def reset(self) -> NDArray[np.float32]:
        """Starts an episode with the next goal; returns its first observation ``[39]``."""
        self.goal_index = self._next_goal()
        self._success = False
        self._length = 0
        self._return = 0.0
        set_goal(self.sim, self.goals[self.goal_index])
        self._observation = self.sim.reset()[0].astype(np.float32)
        return self._observation

    def _next_goal(self) -> int:
        episode = self._episodes
        self._episodes += 1
        if self.rules.goal_mode == "fixed":
            return self._fixed_goal
        if self.rules.goal_mode == "in_order":
            return (self._copy + self._copies * episode) % NUM_GOALS
        return int(self._resampling.integers(NUM_GOALS))

    def go_to(self, episodes: int, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Goes to where an equal environment stands; to be called after seeding alike.

        A reset depends on the goal alone, and a step on what happened since the reset. So nothing
        has to be known of the simulation, and what is reached is exact.

        Args:
            episodes: Resets of the other one since its seeding, at least 1.
            actions: What it was stepped with since the last of them, ``[steps, 4]``.

        Returns:
            Its present observation ``[39]``.
        """
        passed = episodes - 1 - self._episodes
        if self.rules.goal_mode == "resampled":
            self._resampling.integers(NUM_GOALS, size=passed)
        self._episodes += passed
        observation = self.reset()
        for action in actions:
            observation = self.step(action).observation
        return observation

    def step(self, action: ArrayLike) -> Step:
        """Takes one step with ``action [4]``, clipped to [-1, 1]; the caller resets after an end.

        A non-finite action is taken as zeros. When the simulation breaks, the episode is truncated
        and the last good observation stands in for the broken one.
        """
        action = np.asarray(action, dtype=np.float32)
        action_is_finite = _is_finite(action)
        if not action_is_finite:
            action = np.zeros(ACTION_DIM, dtype=np.float32)
        raw_observation, raw_reward, _, _, info = self.sim.step(action.clip(-1.0, 1.0))
        reward = float(raw_reward)
        is_stable = self._is_stable(raw_observation, reward)
        if is_stable:
            self._observation = raw_observation.astype(np.float32)
            self._success |= bool(info["success"])
            self._return += reward
        self._length += 1
        terminated = self.rules.terminate_on_success and self._success
        return Step(
            observation=self._observation,
            reward=reward if is_stable else 0.0,
            terminated=terminated,
            truncated=not terminated and (self._length >= self.rules.horizon or not is_stable),
            success=self._success,
            valid=action_is_finite and is_stable,
            episode_return=self._return,
            episode_length=self._length,
        )

    def _is_stable(self, observation: NDArray[np.float64], reward: float) -> bool:
        # MuJoCo answers a diverged state by resetting it, so the observation looks fine: only the
        # counters of its warnings tell.
        warnings = self.sim.data.warning.number
        return (
            _is_finite(observation)
            and abs(reward) <= _LARGEST
            and not any(warnings[index] for index in _UNSTABLE)
        )

    def close(self) -> None:
        """Frees what the simulation's renderer holds."""
        self.sim.close()  # type: ignore[no-untyped-call]


_LARGEST = float(np.finfo(np.float32).max)
"""Beyond it a reward is infinite once it is stored."""


def _is_finite(vector: NDArray[np.floating[Any]]) -> bool:
    # The sum of squares is quicker, but it may overflow.
    return math.isfinite(vector.dot(vector)) or bool(np.isfinite(vector).all())


def make_sim(name: str, reward_version: RewardVersion = "v2", *, lean: bool = True) -> SawyerXYZEnv:
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
