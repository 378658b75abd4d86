"""The options of a run that are neither its environments' nor its agent's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
LAST_EVALUATIONS = 5
"""Evaluations that the mean of the last ones is over, where nothing else is asked for."""
Camera = Literal[
    "corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV"
]


@dataclass(frozen=True)
class LoopConfig:
    """How long the loop runs and what it does when; steps are vector steps."""

    total_steps: int = 2_000_000
    """Vector steps of the whole run; one steps every environment once."""
    warmstart_steps: int = 4_000
    """Vector steps of uniformly random actions before the first update."""
    updates_per_step: float = 1.0
    """Gradient updates per vector step; below 1, an update every so many steps."""
    replay_capacity: int = 100_000
    """Transitions kept per task."""
    log_every: int = 1_000
    """Vector steps between rows of training.csv and TensorBoard scalars."""
    checkpoint_every: int = 0
    """Vector steps between checkpoints besides the one after each evaluation; 0 for no others."""
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept; the one with the best evaluation is kept as well."""
    kernel_every: int = 0
    """Updates between diagnoses of the extended NTK, which are kept in kernels/; 0 for none."""
    kernel_minibatches: int = 8
    """Mini-batches per task of a diagnosis, and so rows of each task's kernel."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How often and how thoroughly the policy is evaluated."""

    evaluate_every: int = 20_000
    """Vector steps between evaluations; the last step is always evaluated."""
    evaluation_episodes: int = 50
    """Episodes per task in each evaluation, over the task's goals in turn."""
    video_every: int = 0
    """Vector steps from one video to the next, each made at an evaluation; 0 for none."""


@dataclass(frozen=True)
class VideoConfig:
    """What videos show."""

    video_camera: Camera = "corner4"
    """Camera of the simulation that videos are taken with; topview looks down from above."""
    video_size: int = 480
    """Width and height of a task's picture, in pixels; each panel of a mosaic has half of it."""
    video_stride: int = 4
    """Simulation steps from one frame to the next; any plays at the pace of the simulation."""
    video_episodes: int = 1
    """Episodes of each task in a video, on its goals in turn."""
