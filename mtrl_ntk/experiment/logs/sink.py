"""Where a run logs: what every kind of log is given, and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtrl_ntk.experiment.files.growing_file import GrowingFile
from mtrl_ntk.experiment.types import Counts, Evaluation, LogPosition

Layout = dict[str, dict[str, tuple[str, list[str]]]]
"""Groups of TensorBoard's "Custom Scalars" page; tags are regular expressions."""


class LogKind(NamedTuple):
    """What the logs of one kind of run have of their own."""

    step: str
    """Name of the count that is the step."""
    final: Callable[[Path], Mapping[str, float]]
    """What counts as the result of a run at its end, by tag; none before its first evaluation."""
    group: str
    """What TensorBoard's tags of that begin with."""
    layout: Layout
    """TensorBoard's "Custom Scalars" page."""


class LoggedRun(NamedTuple):
    """A run whose logs begin, or go on."""

    run_dir: Path
    """Its folder, which is there."""
    settings: Mapping[str, Any]
    """All of its settings by name."""
    position: LogPosition | None
    """Where the logs that are there are continued; None if there are none."""
    kind: LogKind
    """What its logs have of their own."""


class Sink:
    """One kind of log; what it has no place for, it leaves out.

    Attributes:
        files: What it writes into the run's folder, if anything; flushed after each call.
    """

    files: Sequence[GrowingFile] = ()

    def log_scalars(self, counters: Counts, scalars: Mapping[str, float]) -> None:
        """Takes numbers by tag; NaN stands for none."""

    def log_training(self, counters: Counts, scalars: Mapping[str, float]) -> None:
        """Takes the numbers by tag that come at every interval, and are always the same ones."""
        self.log_scalars(counters, scalars)

    def log_evaluation(self, counters: Counts, result: Evaluation) -> None:
        """Takes an evaluation."""
        self.log_scalars(counters, result.scalars())

    def log_images(self, counters: Counts, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Takes images ``[height, width, 3]`` by tag."""

    def log_video(self, counters: Counts, tag: str, gif: bytes) -> None:
        """Takes an animated GIF."""

    def log_results(
        self,
        counters: Counts,
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
