"""A tiny suite that resembles Meta-World in nothing: points that are pushed along a line."""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.suites.registry import add_suite
from mtrl_ntk.rl.suites.suite import EpisodeRules, Outcome, Suite

MASSES = {"light": 1.0, "medium": 2.0, "heavy": 4.0}
EDGE = 2.0
"""Beyond it a point is lost, and its episode over."""


class Point:
    """A point of a mass; it is solved near its goal."""

    def __init__(self, mass: float) -> None:
        self.mass = mass

    def draw_goals(self, rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.uniform(-1, 1, (7, 1))

    def reset(self, goal: NDArray[np.float64]) -> NDArray[np.float64]:
        self.goal, self.place, self.speed = float(goal[0]), 0.0, 0.0
        return self._observation()

    def step(self, action: NDArray[np.float32]) -> Outcome:
        self.speed += 0.1 * float(action[0]) / self.mass - 0.05 * self.speed * float(action[1])
        self.place += self.speed
        distance = abs(self.place - self.goal)
        is_lost = abs(self.place) > EDGE
        return Outcome(self._observation(), -distance, distance < 0.1, is_over=is_lost)

    def _observation(self) -> NDArray[np.float64]:
        return np.array([self.place, self.speed, self.goal, self.place - self.goal, 1.0])

    def camera(self, name: str, size: int) -> PointCamera:
        assert name == "side"
        return PointCamera(self, size)

    def close(self) -> None:
        pass


class PointCamera:
    """Shows the point as a white column."""

    def __init__(self, point: Point, size: int) -> None:
        self.point, self.size = point, size

    def picture(self) -> NDArray[np.uint8]:
        picture = np.zeros((self.size, self.size, 3), np.uint8)
        share = np.clip((self.point.place + EDGE) / (2 * EDGE), 0, 1)
        picture[:, int(share * (self.size - 1))] = 255
        return picture

    def close(self) -> None:
        pass


def _simulate(task: str, rules: EpisodeRules) -> Point:
    del rules
    if multiprocessing.parent_process() is not None and "torch" in sys.modules:
        raise RuntimeError("a worker has imported torch")
    return Point(MASSES[task])


POINTS = Suite(
    name="points",
    title="Points on a line",
    observation_dim=5,
    action_dim=2,
    tasks=tuple(MASSES),
    benchmarks={"all": tuple(MASSES), "two": ("light", "heavy")},
    goals_per_task=7,
    max_horizon=40,
    simulate=_simulate,
    cameras=("side",),
    source="points",
)


def point_config(**options: Any) -> EnvConfig:  # noqa: ANN401 - fields of many types
    """Options that mean the tasks of this suite, which is known from then on."""
    return EnvConfig(suite=add_suite(POINTS).name, **options)
