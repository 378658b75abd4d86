"""One task as an episodic environment: goals, seeds, horizon, success and guards.

What a simulation leaves open is done here: goals are drawn from streams of their own, actions are
clipped, success is latched over the episode, and what is not finite is kept out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtrl_ntk.rl.seeds import seed_of
from mtrl_ntk.rl.suites.registry import DEFAULT_SUITE
from mtrl_ntk.rl.suites.suite import Camera, EpisodeRules, Suite

_GOALS_STREAM, _FIXED_STREAM, _RESAMPLING_STREAM = range(3)


class Step(NamedTuple):
    """What one environment step gave; the episode fields count up to and including it."""

    observation: NDArray[np.float32]
    """Next observation ``[observation_dim]``, never that of a reset."""
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
    """One task, one simulation, and random streams that nothing else shares.

    The streams depend on the seed, the task and the copy, and not on which other tasks are trained
    beside it. ``goals`` depends on the seed and the task alone.

    Args:
        name: Name of the task in its suite.
        rules: What an episode is.
        seed: Non-negative seed of the goals and of their draws.
        copy: Index of this environment among the copies of its task.
        copies: Number of copies; ``in_order`` deals the goals out among them.
        goals: The ``goals`` of another copy with the same seed, to save the time of drawing them.
        suite: What the task is one of.
        picture_size: Width and height of what ``render`` gives; 0 for no pictures.

    Raises:
        ConfigError: If there can be no such episodes.
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
        suite: Suite = DEFAULT_SUITE,
        picture_size: int = 0,
    ) -> None:
        self.name, self.suite = name, suite
        self.rules = EpisodeRules(suite.max_horizon) if rules is None else rules
        suite.check(self.rules)
        seed = seed_of(seed)
        self.simulation = suite.simulate(name, self.rules)
        self._camera: Camera | None = None
        if picture_size:
            camera = suite.default("video_camera")
            self._camera = self.simulation.camera(camera, picture_size)
        self._copy = copy
        self._copies = copies
        self.reseed(seed, goals)

    def reseed(self, seed: int, goals: NDArray[np.float64] | None = None) -> None:
        """Draws new goals and restarts every stream; takes effect at the next reset.

        Args:
            seed: As in the constructor.
            goals: As in the constructor.
        """
        seed = seed_of(seed)
        if goals is None:
            goals = self.simulation.draw_goals(self._stream(seed, _GOALS_STREAM))
        self.goals = goals
        self._fixed_goal = int(self._stream(seed, _FIXED_STREAM).integers(len(self.goals)))
        self._resampling = self._stream(seed, _RESAMPLING_STREAM, self._copy)
        self._episodes = 0

    def _stream(self, seed: int, *key: int) -> np.random.Generator:
        spawn_key = (self.suite.tasks.index(self.name), *key)
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))

    def reset(self) -> NDArray[np.float32]:
        """Starts an episode with the next goal; returns its first observation."""
        self.goal_index = self._next_goal()
        self._success = False
        self._length = 0
        self._return = 0.0
        observation = self.simulation.reset(self.goals[self.goal_index])
        self._observation = observation.astype(np.float32)
        return self._observation

    def _next_goal(self) -> int:
        episode = self._episodes
        self._episodes += 1
        if self.rules.goal_mode == "fixed":
            return self._fixed_goal
        if self.rules.goal_mode == "in_order":
            return (self._copy + self._copies * episode) % len(self.goals)
        return int(self._resampling.integers(len(self.goals)))

    def go_to(self, episodes: int, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Goes to where an equal environment stands; to be called after seeding alike.

        A reset depends on the goal alone, and a step on what happened since the reset. So nothing
        has to be known of the simulation, and what is reached is exact.

        Args:
            episodes: Resets of the other one since its seeding, at least 1.
            actions: What it was stepped with since the last of them, ``[steps, action_dim]``.

        Returns:
            Its present observation.
        """
        passed = episodes - 1 - self._episodes
        if self.rules.goal_mode == "resampled":
            self._resampling.integers(len(self.goals), size=passed)
        self._episodes += passed
        observation = self.reset()
        for action in actions:
            observation = self.step(action).observation
        return observation

    def step(self, action: ArrayLike) -> Step:
        """Takes one step with an action, clipped to [-1, 1]; the caller resets after an end.

        A non-finite action is taken as zeros. When the simulation breaks, the episode is truncated
        and the last good observation stands in for the broken one.
        """
        action = np.asarray(action, dtype=np.float32)
        action_is_finite = _is_finite(action)
        if not action_is_finite:
            action = np.zeros(self.suite.action_dim, dtype=np.float32)
        outcome = self.simulation.step(action.clip(-1.0, 1.0))
        is_stable = (
            outcome.is_stable
            and _is_finite(outcome.observation)
            and abs(outcome.reward) <= _LARGEST
        )
        if is_stable:
            self._observation = outcome.observation.astype(np.float32)
            self._success |= outcome.success
            self._return += outcome.reward
        self._length += 1
        terminated = is_stable and outcome.is_over
        terminated |= self.rules.terminate_on_success and self._success
        return Step(
            observation=self._observation,
            reward=outcome.reward if is_stable else 0.0,
            terminated=terminated,
            truncated=not terminated
            and (self._length >= self.rules.horizon or outcome.is_cut or not is_stable),
            success=self._success,
            valid=action_is_finite and is_stable,
            episode_return=self._return,
            episode_length=self._length,
        )

    def render(self) -> NDArray[np.uint8] | None:
        """A picture ``[size, size, 3]``; None if there are to be none."""
        return None if self._camera is None else self._camera.picture()

    def _holder(self, name: str) -> Any:  # noqa: ANN401 - the environment is any library's
        """What has an attribute: the environment that is simulated, or else this one."""
        env = getattr(self.simulation, "env", None)
        wraps = isinstance(env, gymnasium.Env) and env.has_wrapper_attr(name)
        return env if wraps and name != "render" else self

    def get_attr(self, name: str) -> Any:  # noqa: ANN401 - whatever it is
        """An attribute of the environment that is simulated, or else of this one."""
        holder = self._holder(name)
        return getattr(self, name) if holder is self else holder.get_wrapper_attr(name)

    def set_attr(self, name: str, value: object) -> None:
        """Sets an attribute where :meth:`get_attr` finds it; a new one, in the environment."""
        holder = self._holder(name)
        if holder is self and not hasattr(self, name):
            holder = getattr(self.simulation, "env", self)
        if holder is self:
            setattr(self, name, value)
        else:
            holder.set_wrapper_attr(name, value)

    def call(self, name: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - as it comes
        """Calls a method, or returns an attribute that is none."""
        found = self.get_attr(name)
        return found(*args, **kwargs) if callable(found) else found

    def close(self) -> None:
        """Frees what the simulation holds."""
        if self._camera is not None:
            self._camera.close()
        self.simulation.close()


_LARGEST = float(np.finfo(np.float32).max)
"""Beyond it a reward is infinite once it is stored."""


def _is_finite(vector: NDArray[np.floating[Any]]) -> bool:
    # The sum of squares is quicker, but it may overflow.
    return math.isfinite(vector.dot(vector)) or bool(np.isfinite(vector).all())
