"""The options of a run that are neither its environments' nor its agent's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mtrl_ntk.settings import Settings, number, setting

Device = Literal["auto", "cpu", "cuda"]
MOST_EPISODES = 10_000
"""Episodes per task that no evaluation comes near, as a limit."""
LAST_EVALUATIONS = 5
"""Evaluations that the mean of the last ones is over, where nothing else is asked for."""


@dataclass(frozen=True)
class LoopConfig(Settings):
    """How long the loop runs and what it does when; steps are vector steps."""

    total_steps: int = number(2_000_000, at_least=1, decides="length")
    """Vector steps of the whole run; one steps every environment once."""
    warmstart_steps: int = number(4_000, at_least=1, decides="results")
    """Vector steps of uniformly random actions before the first update."""
    hold_noise: int = number(1, at_least=1, limit=10_000, decides="results")
    """Longest time, in vector steps, that a noise of exploration is held; 1 draws it at each."""
    ez_greedy: float = number(0.0, at_least=0, at_most=1, decides="results")
    """Chance per step to hold a random action for a while, times a task's share of failures."""
    ez_longest: int = number(64, at_least=1, limit=10_000, decides="results")
    """Longest time, in vector steps, that it is held."""
    updates_per_step: float = number(1.0, above=0, limit=1000, decides="results")
    """Gradient updates per vector step; below 1, an update every so many steps."""
    decay_steps: int = number(0, at_least=0, decides="length")
    """Vector step by which learning rates and target entropy are at their ends; 0: total_steps."""
    replay_capacity: int = number(100_000, at_least=1, decides="results")
    """Transitions kept per task."""
    log_every: int = number(1_000, at_least=1, decides="nothing")
    """Vector steps between rows of training.csv and TensorBoard scalars."""
    checkpoint_every: int = number(0, at_least=0, decides="nothing")
    """Vector steps between checkpoints besides the one after each evaluation; 0 for no others."""
    keep_checkpoints: int = number(3, at_least=1, decides="nothing")
    """Newest checkpoints that are kept; the one with the best evaluation is kept as well."""
    drop_replay: bool = setting(False, decides="nothing")
    """Remove the replay, nearly all that a run takes of the disk, at its end; no longer run can
    then go on from it."""
    kernel_every: int = number(0, at_least=0, decides="nothing")
    """Updates between diagnoses of the extended NTK, which are kept in kernels/; 0 for none."""
    kernel_minibatches: int = number(8, at_least=1, decides="nothing")
    """Mini-batches per task of a diagnosis, and so rows of each task's kernel."""

    @property
    def decay_end(self) -> int:
        """Vector step by which learning rates and target entropy are at their ends."""
        return self.decay_steps or self.total_steps

    def updates_by(self, step: int) -> int:
        """Updates that are due by the end of a vector step; none before the warm start's end."""
        return max(int((step - self.warmstart_steps) * self.updates_per_step), 0)


@dataclass(frozen=True)
class EvaluationConfig(Settings):
    """How often and how thoroughly the policy is evaluated."""

    evaluate_every: int = number(20_000, at_least=1, decides="nothing")
    """Vector steps between evaluations; the last step is always evaluated."""
    evaluation_episodes: int = number(50, at_least=1, limit=MOST_EPISODES, decides="results")
    """Episodes per task in each evaluation, over the task's goals in turn."""
    stop_at: float = number(0.0, at_least=0, at_most=1, decides="length")
    """Mean success rate of an evaluation with which the run has reached its end; 0 for none."""
    video_every: int = number(0, at_least=0, decides="nothing")
    """Vector steps from one video to the next, each made at an evaluation; 0 for none."""

    @property
    def at_most(self) -> str:
        """What stands before the length of a run, which an evaluation may end sooner."""
        return "at most " if self.stop_at else ""

    def is_enough(self, success: float) -> bool:
        """Whether an evaluation with a mean success rate ends the run."""
        # A mean of rates such as 0.98 differs from it by its rounding.
        return self.stop_at > 0 and success >= self.stop_at - 1e-9


@dataclass(frozen=True)
class VideoConfig(Settings):
    """What videos show."""

    video_camera: str | None = setting(None, of_suite=True, decides="nothing")
    """Camera of the suite that videos are taken with; by default its usual one."""
    video_size: int = number(480, at_least=64, at_most=1920, decides="nothing")
    """Width and height of a task's picture, in pixels; each panel of a mosaic has half of it."""
    video_stride: int = number(4, at_least=1, at_most=80, decides="nothing")
    """Simulation steps from one frame to the next; any plays at the pace of the simulation."""
    video_episodes: int = number(1, at_least=1, at_most=50, decides="nothing")
    """Episodes of each task in a video, on its goals in turn."""
