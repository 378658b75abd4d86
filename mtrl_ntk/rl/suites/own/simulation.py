"""A Gymnasium environment as the simulation of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl_ntk.rl.suites.own.tasks import ActionScale, Tasks
from mtrl_ntk.rl.suites.suite import EpisodeRules, Outcome

NUM_STARTS = 1000
"""Seeds among which the episodes of a task are drawn."""
CAMERA = "render"
"""The only camera there is: what the environment renders."""


class OwnSimulation:
    """A task of a user's own.

    What tells its episodes apart is the seed that the environment is reset with.

    Args:
        tasks: All tasks.
        name: Which of them.
        rules: What an episode is.
    """

    def __init__(self, tasks: Tasks, name: str, rules: EpisodeRules) -> None:
        self.env = tasks.make(name)
        self._tasks, self._name, self._rules = tasks, name, rules
        space = self.env.action_space
        assert isinstance(space, Box)  # as was checked
        self._scale = ActionScale(space)
        self._least_return = tasks.success_return_of(name)
        self._length, self._return = 0, 0.0

    def draw_goals(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Seeds of resets, ``[starts, 1]``."""
        return rng.integers(2**31, size=(NUM_STARTS, 1)).astype(np.float64)

    def reset(self, goal: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Starts the episode of a seed; returns the first observation."""
        self._length, self._return = 0, 0.0
        return as_floats(self.env.reset(seed=int(goal[0]))[0])

    def step(self, action: NDArray[np.float32]) -> Outcome:
        """Takes a step."""
        observation, reward, over, cut, info = self.env.step(self._scale(action))
        self._length += 1
        self._return += float(reward)
        if self._least_return is None:
            success = bool(success_in(info))
        else:
            ends = over or cut or self._length >= self._rules.horizon
            success = bool(ends and self._return >= self._least_return)
        return Outcome(
            as_floats(observation), float(reward), success, is_over=bool(over), is_cut=bool(cut)
        )

    def camera(self, name: str, size: int) -> OwnCamera:
        """What the environment renders; it starts anew."""
        del name
        self.env.close()
        self.env = self._tasks.make(self._name, render_mode="rgb_array")
        inner = self.env.unwrapped
        if inner.render_mode is None and "rgb_array" in inner.metadata.get("render_modes", ()):
            # Its function takes no mode; environments look at it when they render.
            inner.render_mode = "rgb_array"
        return OwnCamera(self, size)

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()


class OwnCamera:
    """Pictures of an environment, scaled into a square.

    Args:
        simulation: The task.
        size: Width and height of the pictures, in pixels.
    """

    def __init__(self, simulation: OwnSimulation, size: int) -> None:
        self._simulation, self._size = simulation, size

    def picture(self) -> NDArray[np.uint8]:
        """What the environment renders now."""
        from PIL import Image, ImageOps  # here, as workers take no pictures

        rendered = self._simulation.env.render()
        picture = np.asarray(rendered)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise TypeError(
                f"render() gave {type(rendered).__name__} {picture.dtype} {picture.shape}, and not "
                'a uint8 array [height, width, 3]; make it with render_mode="rgb_array"'
            )
        image = ImageOps.pad(Image.fromarray(picture), (self._size, self._size))
        return np.asarray(image)

    def close(self) -> None:
        """Has nothing to free: the environment is closed by who has made it."""


def success_in(info: Mapping[str, Any]) -> object:
    """Whether a step's info tells of success; None where it does not say."""
    return info.get("success", info.get("is_success"))


def as_floats(observation: object) -> NDArray[np.floating[Any]]:
    """An observation as an array of floats."""
    array = np.asarray(observation)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)
