"""What a run writes down while it goes on, to every kind of log."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.growing_file import GrowingFile
from mtrl_ntk.experiment.files.layout import refuse_run
from mtrl_ntk.experiment.files.outages import Outages
from mtrl_ntk.experiment.logs.csv_sink import CsvSink, success_rates
from mtrl_ntk.experiment.logs.sink import Layout, LoggedRun, LogKind, Sink
from mtrl_ntk.experiment.logs.tensorboard_sink import TensorBoardSink
from mtrl_ntk.experiment.logs.wandb_sink import make_wandb_sink
from mtrl_ntk.experiment.options.sections import LAST_EVALUATIONS
from mtrl_ntk.experiment.types import Counts, Evaluation, LogPosition

SINKS: tuple[Callable[[LoggedRun], Sink | None], ...] = (make_wandb_sink, CsvSink, TensorBoardSink)
"""Every kind of log. Weights & Biases is first, as it may refuse, before anything is written."""


class RunLogger:
    """Hands what a run logs to every sink; a context manager.

    Every row is written at once, so a killed run keeps all of them. Rows that cannot be written
    wait in memory, and each later row tries again.

    Args:
        run_dir: Folder of the run, created if needed.
        task_names: Tasks in the order of every evaluation.
        position: Where the logs that are there are continued; left out, there may be none.
        settings: All settings of the run by name.
        kind: What its logs have of their own; by default those of reinforcement learning.

    Attributes:
        run_dir: Folder of the run.
        outages: What of the run cannot be written at present.

    Raises:
        UserError: If the folder cannot be written or already holds a run, or a sink cannot be used.
    """

    def __init__(
        self,
        run_dir: Path,
        task_names: Sequence[str],
        position: LogPosition | None = None,
        settings: Mapping[str, Any] | None = None,
        kind: LogKind | None = None,
    ) -> None:
        self.run_dir, self.outages = run_dir, Outages()
        self._kind = kind or LogKind("vector_steps", _results, "success", _layout())
        self._task_names = tuple(task_names)
        if position is None:
            refuse_run(run_dir)
        run = LoggedRun(run_dir, settings or {}, position, self._kind)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._sinks = [sink for make in SINKS if (sink := make(run)) is not None]
        except OSError as error:
            raise UserError(
                f"cannot write the run's folder {run_dir}: {error.strerror}; choose --run-dir"
            ) from error
        self._flush()

    def __enter__(self) -> RunLogger:
        """Returns the logger."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the logs."""
        self.close()

    def close(self) -> None:
        """Writes what is still waiting, if that is possible, and closes the logs."""
        self._flush()
        for sink in reversed(self._sinks):
            sink.close()

    @property
    def unwritten(self) -> list[Path]:
        """The files that lack rows, which still wait to be written."""
        return [file.path for file in self._files if file.is_behind]

    def position(self, step: int) -> LogPosition:
        """How far the logs go at a step; all of it is on the disk by then."""
        self._flush()
        for file in self._files:
            self.outages.attempt(str(file.path), file.flush_to_disk, _MEANWHILE)
        parts = {name: part for sink in self._sinks for name, part in sink.position().items()}
        return LogPosition(step, **parts)

    def log_training(self, counters: Counts, scalars: Mapping[str, float]) -> None:
        """Logs one row of training scalars; NaN stands for "no value".

        The first row fixes the scalars.

        Raises:
            ValueError: If a later row brings a scalar that the first one did not have.
        """
        for sink in self._sinks:
            sink.log_training(counters, scalars)
        self._flush()

    def log_evaluation(self, counters: Counts, result: Evaluation) -> None:
        """Logs what was found of each task.

        Raises:
            ValueError: If the result is of other tasks than the logger's.
        """
        if tuple(result.task_names) != self._task_names:
            raise ValueError(f"expected tasks {self._task_names}, got {result.task_names}")
        for sink in self._sinks:
            sink.log_evaluation(counters, result)
        self._flush()

    def log_diagnosis(
        self,
        counters: Counts,
        scalars: Mapping[str, float],
        images: Mapping[str, npt.NDArray[np.uint8]],
    ) -> None:
        """Logs scalars and images ``[height, width, 3]`` that keep intervals of their own."""
        self.log_images(counters, images)
        for sink in self._sinks:
            sink.log_scalars(counters, scalars)
        self._flush()

    def log_images(self, counters: Counts, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Logs images ``[height, width, 3]``."""
        for sink in self._sinks:
            sink.log_images(counters, images)
        self._flush()

    def log_video(self, counters: Counts, tag: str, gif: bytes) -> None:
        """Logs an animated GIF."""
        for sink in self._sinks:
            sink.log_video(counters, tag, gif)
        self._flush()

    def log_results(self, counters: Counts, settings: Mapping[str, object]) -> None:
        """Logs what has come of which settings, at the end of the run.

        Args:
            counters: How far the run has come.
            settings: The settings that decide anything, by name.
        """
        if metrics := self._kind.final(self.run_dir):
            for sink in self._sinks:
                sink.log_results(counters, settings, metrics)
            self._flush()

    @property
    def _files(self) -> list[GrowingFile]:
        return [file for sink in self._sinks for file in sink.files]

    def _flush(self) -> None:
        for file in self._files:
            self.outages.attempt(str(file.path), file.flush, _MEANWHILE)


_MEANWHILE = (
    "training goes on; what is missing there is kept in memory and written with a later row"
)


def _results(run_dir: Path) -> dict[str, float]:
    """What counts as the result of a run of reinforcement learning."""
    rates = [*success_rates(run_dir).values()]
    if not rates or not all(map(math.isnan, rates)):
        return final_metrics(rates) if rates else {}
    returns = [*success_rates(run_dir, "mean_return").values()]
    return {"final/return": returns[-1], "final/max_return": max(returns)}


def final_metrics(success_rates: Sequence[float]) -> dict[str, float]:
    """The three numbers that are published as a run's success, which differ.

    Args:
        success_rates: Mean success rate of every evaluation, in their order; at least one.
    """
    return {
        "final/success_rate": success_rates[-1],
        f"final/mean_of_last_{LAST_EVALUATIONS}": float(np.mean(success_rates[-LAST_EVALUATIONS:])),
        "final/max_success_rate": max(success_rates),
    }


def _layout() -> Layout:
    """Groups the charts on TensorBoard's "Custom Scalars" page; tags are regular expressions."""
    success = {
        "evaluation": ("Multiline", ["success/mean", "success_by_task/.*"]),
        "training": ("Multiline", ["training_success_rate/.*"]),
    }
    groups = {
        group: {
            part: ("Multiline", [f"training_{group}/{part}/.*"]) for part in ("critic", "actor")
        }
        for group in ("weights", "ntk", "losses")
    }
    kernels = {
        f"{part}: {name.replace('_', ' ')}": ("Multiline", [f"training_kernels/{part}/{name}/.*"])
        for part in ("critic", "actor")
        for name in ("largest_eigenvalue", "condition_number")
    }
    health = {
        "skipped tasks": ("Multiline", ["training_skipped/.*"]),
        "restarted workers": ("Multiline", ["training/worker_restarts"]),
        "gradient norms": ("Multiline", ["training_gradient_norm/.*"]),
        "steps per second": ("Multiline", ["training/.*_per_second"]),
    }
    return {"success": success, **groups, "kernels": kernels, "health": health}
