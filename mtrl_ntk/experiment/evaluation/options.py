"""Options of ``evaluate_mt10``; imports nothing heavy, so that help and errors need not wait."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.pretrained import PREFIX
from mtrl_ntk.experiment.options.sections import MOST_EPISODES, Device, VideoConfig
from mtrl_ntk.settings import LARGEST_SEED, MOST_PROCESSES, Settings, number, setting

UNSEEN_SEED = 1_000_000
"""Seed of the goals of an evaluation, the same for all runs, so that they can be compared."""


@dataclass(frozen=True)
class EvaluationOptions(Settings):
    """What to evaluate, and how."""

    run: Path | None = None
    """Another way to give DIR."""
    pretrained: str | None = None
    """Instead of DIR, a policy that comes with the package; --list-pretrained names them."""
    checkpoint: Path | None = None
    """Which of the run's checkpoints: last, best, or its name; by default the last."""
    suite: str | None = None
    """Where the run's own tasks come from, as it was given to train_mt10; none for Meta-World's."""
    benchmark: str | None = setting(None, of_suite=True)
    """Benchmark whose tasks are evaluated; by default the tasks of training."""
    tasks: tuple[str, ...] = setting((), one_value=True)
    """Tasks to evaluate: some of those of training, or as many others to take their places."""
    evaluation_episodes: int | None = number(
        None, at_least=1, limit=MOST_EPISODES, flags=("--episodes", "--evaluation-episodes")
    )
    """Episodes per task; by default 50, one for each of as many goals."""
    goals: Literal["unseen", "training"] = "unseen"
    """Goals that training never met, or its own: those of the run's evaluation.csv."""
    seed: int | None = number(None, at_least=0, at_most=LARGEST_SEED)
    """Seed of the unseen goals and of sampled actions; by default the same for all runs."""
    sampled: bool = False
    """Draw the actions from the policy instead of taking its mode."""
    out: Path | None = None
    """Folder of the results; by default evaluations/TIME in the run's folder."""
    device: Device = "auto"
    """Where the policy runs; auto takes CUDA when there is any."""
    workers: int = number(-1, at_least=-1, limit=MOST_PROCESSES)
    """Processes that step the environments; 0 steps them in this one, -1 chooses by cores."""
    video: bool = False
    """Record a video of each task, and a mosaic of all."""
    gif: bool = False
    """Also make the mosaic an animated GIF, for pages that show no videos; implies --video."""
    video_strict: bool = False
    """Fail where no video can be made, instead of evaluating without; implies --video."""
    videos: VideoConfig = field(default_factory=VideoConfig)
    """Videos"""

    def check_together(self) -> None:
        """Checks what the bounds of one option cannot say.

        Raises:
            ConfigError: If options are missing, or do not fit together.
        """
        if self.source is None:
            raise ConfigError("give DIR, the folder of a run or of one of its checkpoints")
        if self.pretrained is not None and (self.run or self.checkpoint):
            raise ConfigError("give DIR, with --checkpoint or without, or --pretrained, not both")
        if self.benchmark is not None and self.tasks:
            raise ConfigError("give --benchmark or --tasks, not both")
        if self.goals == "training" and self.seed is not None and not self.sampled:
            raise ConfigError("--seed chooses unseen goals; leave it out with --goals training")
        for one in fields(self.videos):
            if not self.wants_video and getattr(self.videos, one.name) != one.default:
                raise ConfigError(f"{one.name} is of no use without --video")

    @property
    def source(self) -> Path | None:
        """Where the policy is, as far as it was said."""
        if self.pretrained is not None:
            return Path(f"{PREFIX}{self.pretrained}")
        # Alone, a checkpoint is a place, as its run would be.
        return self.run or self.checkpoint

    @property
    def wants_video(self) -> bool:
        """Whether any option asks for videos."""
        return self.video or self.gif or self.video_strict
