"""Draws Meta-World's scenes: what is where, from where it is seen, and in which split it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtrl_ntk.rl.suites.metaworld.scanner import Scan, Scanner, Viewpoint
from mtrl_ntk.rl.suites.metaworld.simulation import SawyerSimulation, make_sim

_MOST_ACTIONS = 4
_STEPS_PER_ACTION = 10
_TARGET = np.array([0.0, 0.65, 0.1])
_TARGET_SPREAD = 0.1
_DISTANCES = (0.9, 1.5)
_AZIMUTHS = (160.0, 380.0)
"""In front of the robot and beside it: from behind, it hides the table."""
_ELEVATIONS = (-60.0, -15.0)


class Frames(NamedTuple):
    """How many scenes there are, and how large they are drawn."""

    train_goals: int
    """Goals of each task to learn from."""
    test_goals: int
    """Other goals of each task, to measure on."""
    views: int
    """Scenes of each goal."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""


def draw_scenes(
    tasks: tuple[str, ...], frames: Frames, seed: int, report: Callable[[str], None]
) -> dict[str, Tensor]:
    """Draws scenes of some tasks, each with its own pose of the arm and viewpoint.

    Args:
        tasks: Names of tasks.
        frames: How many, and how large.
        seed: Seed of goals, poses and viewpoints.
        report: Told the name of each task before its scenes are drawn.

    Returns:
        By ``SPLIT/PART``, for the parts ``picture`` ``[scenes, 3, height, width]``, ``classes``,
        ``depths``, ``normals``, and ``task`` and ``goal`` that say what a scene is of.
    """
    drawn: dict[str, list[dict[str, Tensor]]] = {"train": [], "test": []}
    for index, name in enumerate(tasks):
        report(name)
        rng = np.random.default_rng([seed, index])
        for goal, scan in _scans(name, frames, rng):
            split = "train" if goal < frames.train_goals else "test"
            drawn[split].append(_parts(scan) | {"task": torch.tensor(index)})
            drawn[split][-1]["goal"] = torch.tensor(goal)
    return {
        f"{split}/{part}": torch.stack([scene[part] for scene in scenes])
        for split, scenes in drawn.items()
        for part in scenes[0]
    }


def _scans(name: str, frames: Frames, rng: np.random.Generator) -> Iterator[tuple[int, Scan]]:
    """Scans of a task, with the numbers of their goals."""
    env = make_sim(name)
    with (
        closing(SawyerSimulation(env)) as simulation,
        closing(Scanner(env, frames.width, frames.height)) as scanner,
    ):
        goals = simulation.draw_goals(rng)
        for index in range(frames.train_goals + frames.test_goals):
            for _ in range(frames.views):
                simulation.reset(goals[index])
                for _ in range(rng.integers(_MOST_ACTIONS + 1)):
                    action = rng.uniform(-1, 1, 4).astype(np.float32)
                    for _ in range(_STEPS_PER_ACTION):
                        simulation.step(action)
                yield index, scanner.scan(_viewpoint(rng))


def _viewpoint(rng: np.random.Generator) -> Viewpoint:
    x, y, z = _TARGET + rng.uniform(-_TARGET_SPREAD, _TARGET_SPREAD, 3)
    ranges = (_DISTANCES, _AZIMUTHS, _ELEVATIONS)
    return Viewpoint((x, y, z), *(rng.uniform(*between) for between in ranges))


def _parts(scan: Scan) -> dict[str, Tensor]:
    return {
        "picture": torch.from_numpy(scan.picture).movedim(-1, 0),
        "classes": torch.from_numpy(scan.classes),
        "depths": torch.from_numpy(scan.depths),
        "normals": torch.from_numpy(scan.normals).movedim(-1, 0).half(),
    }
