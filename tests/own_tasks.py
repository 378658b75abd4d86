"""Tasks of a user's own that resemble nothing in the package: masses to be moved to a place."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl_ntk.rl.suites.own.tasks import Tasks

Array = NDArray[np.float64]


class Mass(gymnasium.Env[Array, Array]):
    """A mass on a plane that starts anywhere; it is lost beyond an edge, and its episode over."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, goal: float, bound: float = 2.0, render_mode: str | None = None) -> None:
        self.goal, self.render_mode = np.array([goal, 0.0]), render_mode
        self.observation_space = Box(-10, 10, (4,), np.float64)
        self.action_space = Box(-bound / 2, bound, (2,), np.float64)

    def _observation(self) -> Array:
        return np.concatenate([self.place, self.speed])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.place, self.speed = self.np_random.uniform(-1, 1, 2), np.zeros(2)
        return self._observation(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.speed = 0.9 * (self.speed + 0.1 * action)
        self.place = self.place + 0.3 * self.speed
        distance = float(np.linalg.norm(self.place - self.goal))
        lost = bool(np.abs(self.place).max() > 2)
        return self._observation(), -distance - 10 * lost, lost, False, self.info(distance)

    def info(self, distance: float) -> dict[str, Any]:
        return {"success": distance < 0.3}

    def render(self) -> NDArray[np.uint8]:
        picture = np.zeros((60, 90, 3), np.uint8)
        row, column = ((np.clip(self.place, -2, 2) + 2) / 4 * 59).astype(int)
        picture[row : row + 3, column : column + 3] = 255
        return picture


class Silent(Mass):
    """One that says nothing of success."""

    def info(self, distance: float) -> dict[str, Any]:
        del distance
        return {}


class Forgetful(Mass):
    """One that starts where it likes, whatever the seed."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        del seed
        super().reset(seed=None, options=options)
        return self._observation(), {}


def make_tasks() -> Tasks:
    return Tasks(
        {
            "left": lambda render_mode=None: Mass(-1, render_mode=render_mode),
            "right": lambda: Mass(1, bound=1.0),
        },
        horizon=12,
    )


def make_silent() -> Tasks:
    return Tasks({"left": lambda: Silent(-1), "right": lambda: Silent(1)}, horizon=12)
