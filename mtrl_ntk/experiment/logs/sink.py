"""Where a run logs: what every kind of log is given, and gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtrl_ntk.experiment.files.growing_file import GrowingFile
from mtrl_ntk.experiment.types import Counters, EvaluationResult, LogPosition

MEAN_TASK = "mean"


class LoggedRun(NamedTuple):
    """A run whose logs begin, or go on."""

    run_dir: Path
    """Its folder, which is there."""
    settings: Mapping[str, Any]
    """All of its settings by name."""
    position: LogPosition | None
    """Where the logs that are there are continued; None if there are none."""


class Sink:
    """One kind of log; what it has no place for, it leaves out.

    Attributes:
        files: What it writes into the run's folder, if anything; flushed after each call.
    """

    files: Sequence[GrowingFile] = ()

    def log_scalars(self, counters: Counters, scalars: Mapping[str, float]) -> None:
        """Takes numbers by tag; NaN stands for none."""

    def log_training(self, counters: Counters, scalars: Mapping[str, float]) -> None:
        """Takes the numbers by tag that come at every interval, and are always the same ones."""
        self.log_scalars(counters, scalars)

    def log_evaluation(self, counters: Counters, result: EvaluationResult) -> None:
        """Takes an evaluation."""
        scalars = {}
        for task, success_rate, mean_return in task_results(result):
            scalars[f"charts/{task}_success_rate"] = success_rate
            scalars[f"charts/{task}_return"] = mean_return
        self.log_scalars(counters, scalars)

    def log_images(self, counters: Counters, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Takes images ``[height, width, 3]`` by tag."""

    def log_video(self, counters: Counters, tag: str, gif: bytes) -> None:
        """Takes an animated GIF."""

    def log_results(
        self,
        counters: Counters,
        settings: Mapping[str, object],  # noqa: ARG002 - some kinds of log show them
        metrics: Mapping[str, float],
    ) -> None:
        """Takes what has come of which settings, at the end of the run.

        Args:
            counters: How far the run has come.
            settings: The settings that decide anything, by name.
            metrics: Scalars by tag.
        """
        self.log_scalars(counters, metrics)

    def position(self) -> Mapping[str, Any]:
        """What a :class:`LogPosition` keeps of it."""
        return {}

    def close(self) -> None:
        """Takes no more."""
        for file in self.files:
            file.close()


def task_results(result: EvaluationResult) -> list[tuple[str, float, float]]:
    """Success rate and return of each task, and their means over the tasks."""
    successes, returns = result.success_rates.tolist(), result.mean_returns.tolist()
    results = list(zip(result.task_names, successes, returns, strict=True))
    return [*results, (MEAN_TASK, float(np.mean(successes)), float(np.mean(returns)))]
