"""Pendulums of different length and mass, to be swung up: an example of tasks of one's own.

::

    train_mt10 --suite mtrl_ntk.examples.pendulums:make_tasks --config pendulums
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

_PENDULUMS = {"short": (0.7, 1.0), "usual": (1.0, 1.0), "long": (1.2, 0.8), "light": (1.0, 0.5)}
"""Length in metres and mass in kilograms by name."""
_STEPS = 150
_HELD = 10
"""Steps upright in a row after which a pendulum counts as swung up."""


class Pendulum(PendulumEnv):
    """Gymnasium's pendulum with a length, a mass, and an end: it is swung up when it stays up.

    Args:
        length: In metres.
        mass: In kilograms.
        render_mode: ``rgb_array`` for pictures, which take no further packages.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, length: float, mass: float, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.l, self.m = length, mass
        self._held = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Lets it hang or stand anywhere."""
        self._held = 0
        observation, info = super().reset(seed=seed, options=options)
        return observation, info

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Turns it by a torque."""
        observation, reward, over, cut, info = super().step(action)  # type: ignore[no-untyped-call]
        is_upright = observation[0] > np.cos(0.25) and abs(observation[2]) < 1
        self._held = self._held + 1 if is_upright else 0
        return observation, float(reward), over, cut, {**info, "success": self._held >= _HELD}

    def render(self) -> NDArray[np.uint8]:
        """A picture of its rod and its weight."""
        size, centre = 200, 100
        picture = np.full((size, size, 3), 255, np.uint8)
        rows, columns = np.mgrid[:size, :size]
        angle = self.state[0]
        for share in np.linspace(0, 1, 60):
            reach = 75 * share * self.l
            row, column = centre - reach * np.cos(angle), centre - reach * np.sin(angle)
            radius = 4 + 3 * self.m if share == 1 else 3
            is_inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
            picture[is_inside] = (200, 60, 60) if share == 1 else (90, 90, 90)
        return picture


def _make(length: float, mass: float, render_mode: str | None = None) -> TimeLimit[Any, Any]:
    return TimeLimit(Pendulum(length, mass, render_mode), _STEPS)


def make_tasks() -> dict[str, Callable[..., TimeLimit[Any, Any]]]:
    """The tasks by name: functions that make an environment."""
    return {name: partial(_make, *sizes) for name, sizes in _PENDULUMS.items()}
