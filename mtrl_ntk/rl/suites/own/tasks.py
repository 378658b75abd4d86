"""What a user says of tasks of their own."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError

AnyEnv = gymnasium.Env[Any, Any]
MakeTask = str | Callable[..., AnyEnv]
"""A registered id, or a function that makes an environment and may take a ``render_mode``."""


@dataclass(frozen=True)
class Tasks:
    """Gymnasium environments that are trained together, and what else a run has to know of them.

    Attributes:
        envs: By the tasks' names, registered ids, or functions that make an environment. One that
            takes a ``render_mode`` can be filmed.
        horizon: Steps after which episodes are truncated at the latest; may be left out where all
            environments say their ``max_episode_steps``.
        success_return: Return from which on an episode is a success, of all tasks or by name. Left
            out, it is one whose ``info["success"]`` was true at any step; where there is no such
            key, nothing counts as success, and mean returns are compared.
        says_success: Whether infos have that key though they need not have it at each step.
        title: What the tasks are called in protocols; by default, their function.
    """

    envs: Mapping[str, MakeTask]
    horizon: int | None = None
    success_return: float | Mapping[str, float] | None = None
    says_success: bool = False
    title: str | None = None

    def __post_init__(self) -> None:
        """Raises a ConfigError that names what cannot be."""
        envs: Any = self.envs  # which may be anything
        if not isinstance(envs, Mapping) or not envs:
            raise ConfigError(
                f"tasks are {_brief(self.envs)}; they must be a mapping from names to functions "
                'that make an environment, or to registered ids such as "Pendulum-v1"'
            )
        for name, make in envs.items():
            if not isinstance(name, str) or not re.fullmatch(r"\w[\w.=+-]*", name):
                raise ConfigError(
                    f"the name of a task is {name!r}; it must be of letters, digits and . _ - + ="
                )
            if not isinstance(make, str) and not callable(make):
                raise ConfigError(
                    f"task {name} is {_brief(make)}; it must be a function that makes an "
                    "environment, or a registered id"
                )
        if self.horizon is not None and not (type(self.horizon) is int and self.horizon > 0):
            raise ConfigError(f"horizon is {self.horizon!r}; it must be a positive whole number")
        self._check_success()

    def _check_success(self) -> None:
        given: list[Any]
        if isinstance(self.success_return, Mapping):
            if self.success_return.keys() != self.envs.keys():
                raise ConfigError(
                    f"success_return names {', '.join(map(str, self.success_return))}; it must "
                    f"name every task: {', '.join(self.envs)}"
                )
            given = list(self.success_return.values())
        else:
            given = [] if self.success_return is None else [self.success_return]
        for value in given:
            if not isinstance(value, int | float) or not np.isfinite(value):
                raise ConfigError(f"success_return is {value!r}; it must be a finite number")

    def success_return_of(self, name: str) -> float | None:
        """Return from which on an episode of a task is a success; None if no return makes it."""
        if isinstance(self.success_return, Mapping):
            return self.success_return[name]
        return self.success_return

    def make(self, name: str, render_mode: str | None = None) -> AnyEnv:
        """Makes the environment of a task.

        Args:
            name: The task.
            render_mode: How it is to be rendered, where its function can be told.
        """
        make = self.envs[name]
        mode: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        if isinstance(make, str):
            return gymnasium.make(make, **mode)
        env: Any = make(**mode) if _takes_render_mode(make) else make()
        if not isinstance(env, gymnasium.Env):
            raise ConfigError(f"task {name} is {_brief(env)}; it must be a gymnasium.Env")
        made: AnyEnv = env
        return made


def _takes_render_mode(make: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # of a class written in C
        return False
    return any(p.name == "render_mode" or p.kind is p.VAR_KEYWORD for p in parameters)


def check_spaces(name: str, env: AnyEnv) -> None:
    """Checks that an agent can act in an environment.

    Raises:
        ConfigError: If it cannot.
    """
    observations, actions = env.observation_space, env.action_space
    if not isinstance(observations, Box) or len(observations.shape) != 1:
        raise ConfigError(
            f"task {name} has observations {_brief(observations)}; they must be a Box of one axis: "
            "gymnasium.wrappers.FlattenObservation makes such of others"
        )
    if not isinstance(actions, Box) or len(actions.shape) != 1:
        raise ConfigError(
            f"task {name} has actions {_brief(actions)}; they must be a Box of one axis, as the "
            "agent acts in continuous spaces"
        )
    if not np.issubdtype(actions.dtype, np.floating):
        raise ConfigError(f"task {name} has actions of {actions.dtype}; they must be floats")
    if not actions.is_bounded():
        raise ConfigError(
            f"task {name} has actions without bounds, {_brief(actions)}; the agent's lie between "
            "bounds, which its action_space has to name"
        )


class ActionScale:
    """Maps actions from [-1, 1] to the bounds of a space.

    Args:
        space: The space.
    """

    def __init__(self, space: Box) -> None:
        self._low, self._high = space.low, space.high
        self._half = (self._high.astype(np.float64) - self._low) / 2

    def __call__(self, action: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """The action of the space that an action of the agent stands for."""
        action = action.astype(np.float64)
        # From the nearer end, so that the ends are met.
        up, down = self._low + self._half * (1 + action), self._high - self._half * (1 - action)
        scaled = np.where(action < 0, up, down).astype(self._low.dtype)
        # Rounding must not lead out of the space.
        clipped: NDArray[np.floating[Any]] = scaled.clip(self._low, self._high)
        return clipped


def _brief(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 100
