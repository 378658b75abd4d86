"""What a run writes down while it goes on: TensorBoard events and two CSV files."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.growing_file import CsvFile
from mtrl_ntk.experiment.files.layout import EVALUATION_CSV, TRAINING_CSV, refuse_run
from mtrl_ntk.experiment.files.outages import Outages
from mtrl_ntk.experiment.logs.events import EventFile, cut_events, event_files
from mtrl_ntk.experiment.logs.hyper_parameters import add_hyper_parameters, final_metrics
from mtrl_ntk.experiment.types import Counters, EvaluationResult, LogPosition

if TYPE_CHECKING:
    from typing_extensions import Self

    from mtrl_ntk.experiment.logs.wandb_mirror import WandbMirror

MEAN_TASK = "mean"


class RunLogger:
    """Writes training scalars and evaluations to TensorBoard and CSV; a context manager.

    Every row is written at once, so a killed run keeps all of them. Rows that cannot be written
    wait in memory, and each later row tries again.

    Args:
        run_dir: Folder of the run, created if needed.
        task_names: Tasks in the order of every evaluation.
        position: Where the logs that are there are continued; left out, there may be none.
        mirror: Where scalars and images are logged as well.

    Attributes:
        run_dir: Folder of the run.
        outages: What of the run cannot be written at present.

    Raises:
        UserError: If the folder cannot be written or already holds the logs of a run.
    """

    def __init__(
        self,
        run_dir: Path,
        task_names: Sequence[str],
        position: LogPosition | None = None,
        mirror: WandbMirror | None = None,
    ) -> None:
        self._mirror = mirror
        self.run_dir, self.outages = run_dir, Outages()
        self._task_names = tuple(task_names)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._open(position)
        except OSError as error:
            raise UserError(
                f"cannot write the run's folder {run_dir}: {error.strerror}; choose --run-dir"
            ) from error
        if position is None or not position.events:
            self._events.add_layout(_layout())
        self._flush()

    def _open(self, position: LogPosition | None) -> None:
        if position is None:
            refuse_run(self.run_dir)
            self._training = _create(self.run_dir / TRAINING_CSV)
            self._evaluation = _create(self.run_dir / EVALUATION_CSV)
            self._events = EventFile(self.run_dir)
        else:
            self._training = _continue(self.run_dir / TRAINING_CSV, position.training)
            self._evaluation = _continue(self.run_dir / EVALUATION_CSV, position.evaluation)
            cut_events(self.run_dir, position.events)
            # A TensorBoard that has already shown what was cut off takes it back.
            self._events = EventFile(self.run_dir, purge_step=position.vector_steps + 1)
        self._files = (self._training, self._evaluation, self._events)

    def __enter__(self) -> Self:
        """Returns the logger."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the files."""
        self.close()

    def close(self) -> None:
        """Writes what is still waiting, if that is possible, and closes the files."""
        self._flush()
        for file in self._files:
            file.close()
        if self._mirror is not None:
            self._mirror.close()

    @property
    def unwritten(self) -> list[Path]:
        """The files that lack rows, which still wait to be written."""
        return [file.path for file in self._files if file.is_behind]

    def position(self, vector_steps: int) -> LogPosition:
        """How far the logs go at a step; all of it is on the disk by then."""
        self._flush()
        for file in self._files:
            self.outages.attempt(str(file.path), file.flush_to_disk, _MEANWHILE)
        return LogPosition(
            vector_steps,
            training=self._training.size,
            evaluation=self._evaluation.size,
            events={path.name: path.stat().st_size for path in event_files(self.run_dir)}
            | {self._events.path.name: self._events.size},
        )

    def log_training(self, counters: Counters, scalars: Mapping[str, float]) -> None:
        """Writes one row of training scalars; NaN stands for "no value" and becomes an empty cell.

        The first row fixes the columns.

        Raises:
            ValueError: If a later row brings a scalar that the first one did not have.
        """
        self._training.add_row({**asdict(counters), **scalars})
        self._add_scalars(counters, scalars)

    def log_evaluation(self, counters: Counters, result: EvaluationResult) -> None:
        """Writes one row per task and one for their mean.

        Raises:
            ValueError: If the result is of other tasks than the logger's.
        """
        if tuple(result.task_names) != self._task_names:
            raise ValueError(f"expected tasks {self._task_names}, got {result.task_names}")
        scalars = {}
        for task, success_rate, mean_return in _rows(result):
            scores = {"success_rate": success_rate, "mean_return": mean_return}
            row = {**asdict(counters), "task": task, **scores, "episodes": result.episodes}
            self._evaluation.add_row(row)
            scalars[f"charts/{task}_success_rate"] = success_rate
            scalars[f"charts/{task}_return"] = mean_return
        self._add_scalars(counters, scalars)

    def log_diagnosis(
        self,
        counters: Counters,
        scalars: Mapping[str, float],
        images: Mapping[str, npt.NDArray[np.uint8]],
    ) -> None:
        """Writes scalars and images ``[height, width, 3]`` to TensorBoard only.

        Diagnoses keep intervals of their own, which do not fit the rows of ``training.csv``.
        """
        for tag, image in images.items():
            self._events.add_image(counters.vector_steps, tag, image)
        if self._mirror is not None:
            self._mirror.log_images(asdict(counters), images)
        self._add_scalars(counters, scalars)

    def log_results(self, counters: Counters, settings: Mapping[str, object]) -> None:
        """Writes what has come of which settings, at the end of the run, to TensorBoard.

        Args:
            counters: How far the run has come.
            settings: All settings of the run by name.
        """
        rates = [*success_rates(self.run_dir).values()]
        if rates:
            metrics = final_metrics(rates)
            add_hyper_parameters(self._events, counters.vector_steps, settings, metrics)
            if self._mirror is not None:
                self._mirror.log(asdict(counters), metrics)
            self._flush()

    def log_video(self, counters: Counters, tag: str, gif: bytes) -> None:
        """Shows an animated GIF among TensorBoard's images."""
        self._events.add_gif(counters.vector_steps, tag, gif)
        self._flush()

    def _add_scalars(self, counters: Counters, scalars: Mapping[str, float]) -> None:
        self._events.add_scalars(counters.vector_steps, scalars)
        if self._mirror is not None:
            self._mirror.log(asdict(counters), scalars)
        self._flush()

    def _flush(self) -> None:
        for file in self._files:
            self.outages.attempt(str(file.path), file.flush, _MEANWHILE)


_MEANWHILE = (
    "training goes on; what is missing there is kept in memory and written with a later row"
)


def _create(path: Path) -> CsvFile:
    path.touch()
    return CsvFile(path)


def success_rates(folder: Path) -> dict[int, float]:
    """Mean success rate of each evaluation of a run, by vector steps."""
    try:
        rows = read_rows(folder / EVALUATION_CSV, "vector_steps", "task", "success_rate")
    except UserError:
        return {}  # as if it had none: train_mt10 --resume writes it anew
    return {
        int(float(row["vector_steps"])): float(row["success_rate"] or "nan")
        for row in rows
        if row["task"] == MEAN_TASK
    }


def _continue(path: Path, size: int) -> CsvFile:
    content = path.read_bytes() if path.exists() else b""
    if len(content) < size:
        warnings.warn(f"{path} has lost rows since its checkpoint was saved", stacklevel=5)
    # A row is whole, or it is none.
    kept = content[: content[:size].rfind(b"\n") + 1]
    with path.open("ab") as file:
        file.truncate(len(kept))
    header = kept.decode().split("\n", 1)[0]
    return CsvFile(path, len(kept), tuple(next(csv.reader([header]), ())))


def _rows(result: EvaluationResult) -> list[tuple[str, float, float]]:
    successes, returns = result.success_rates.tolist(), result.mean_returns.tolist()
    rows = list(zip(result.task_names, successes, returns, strict=True))
    return [*rows, (MEAN_TASK, float(np.mean(successes)), float(np.mean(returns)))]


def _layout() -> dict[str, dict[str, tuple[str, list[str]]]]:
    """Groups the charts on TensorBoard's "Custom Scalars" page; tags are regular expressions."""
    success = {
        "evaluation": ("Multiline", ["charts/[^/]*_success_rate$"]),
        "training": ("Multiline", ["charts/training_success_rate/.*"]),
    }
    groups = {
        group: {net: ("Multiline", [f"{group}/{net}/.*"]) for net in ("critic", "actor")}
        for group in ("weights", "ntk", "losses")
    }
    kernels = {
        f"{net}: {name.replace('_', ' ')}": ("Multiline", [f"kernels/{net}/{name}/.*"])
        for net in ("critic", "actor")
        for name in ("largest_eigenvalue", "condition_number")
    }
    health = {
        "skipped tasks": ("Multiline", ["skipped/.*"]),
        "restarted workers": ("Multiline", ["charts/worker_restarts"]),
        "gradient norms": ("Multiline", ["gradient_norm/.*"]),
        "steps per second": ("Multiline", ["charts/.*_per_second"]),
    }
    return {"success": success, **groups, "kernels": kernels, "health": health}
