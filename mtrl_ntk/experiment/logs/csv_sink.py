"""The two CSV files of a run: training scalars and evaluations."""

from __future__ import annotations

import codecs
import csv
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.growing_file import CsvFile
from mtrl_ntk.experiment.files.layout import EVALUATION_CSV, TRAINING_CSV
from mtrl_ntk.experiment.logs.sink import LoggedRun, Sink
from mtrl_ntk.experiment.types import MEAN_TASK, Counts, Evaluation


class CsvSink(Sink):
    """Writes a row for each row of training scalars, and one per task for each evaluation.

    Scalars and images with intervals of their own do not fit these rows.
    """

    def __init__(self, run: LoggedRun) -> None:
        training, evaluation = run.run_dir / TRAINING_CSV, run.run_dir / EVALUATION_CSV
        if run.position is None:
            self._training, self._evaluation = _create(training), _create(evaluation)
        else:
            at, steps = run.position, run.position.step
            self._training = _continue(training, at.training, steps)
            self._evaluation = _continue(evaluation, at.evaluation, steps)
        self.files = (self._training, self._evaluation)

    def log_training(self, counters: Counts, scalars: Mapping[str, float]) -> None:
        """Adds one row; NaN becomes an empty cell.

        Raises:
            ValueError: If a later row brings a scalar that the first one did not have.
        """
        self._training.add_row({**asdict(counters), **scalars})

    def log_evaluation(self, counters: Counts, result: Evaluation) -> None:
        """Adds its rows."""
        for row in result.rows():
            self._evaluation.add_row({**asdict(counters), **row})

    def position(self) -> Mapping[str, int]:
        """Bytes of both files."""
        return {"training": self._training.size, "evaluation": self._evaluation.size}


def success_rates(folder: Path, column: str = "success_rate") -> dict[int, float]:
    """Mean success rate, or another column, of each evaluation of a run, by vector steps."""
    try:
        rows = read_rows(folder / EVALUATION_CSV, "vector_steps", "task", column)
    except UserError:
        return {}  # as if it had none: train_mt10 --resume writes it anew
    return {
        int(float(row["vector_steps"])): float(row[column] or "nan")
        for row in rows
        if row["task"] == MEAN_TASK
    }


def _create(path: Path) -> CsvFile:
    path.touch()
    return CsvFile(path)


def _continue(path: Path, size: int, steps: int) -> CsvFile:
    """Goes on after the rows that were there at a checkpoint, and removes what follows.

    Args:
        path: The file.
        size: Bytes that it had.
        steps: Steps that the run had taken.
    """
    raw = path.read_bytes() if path.exists() else b""
    # An editor may have saved it with a mark at its beginning, and other ends of lines.
    content = raw.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    if size and content[size - 1 : size] != b"\n":  # its bytes are no measure any more
        what = "has lost rows" if len(content) < size else "was changed"
        warnings.warn(f"{path} {what} since its checkpoint was saved", stacklevel=5)
        rows = content.splitlines(keepends=True)
        size = sum(map(len, rows[:1] + [row for row in rows[1:] if _step_of(row) <= steps]))
    # A row is whole, or it is none.
    kept = content[: content[:size].rfind(b"\n") + 1]
    if raw.startswith(kept):
        with path.open("ab") as file:
            file.truncate(len(kept))
    else:
        atomic.write(path, kept)
    header = kept.split(b"\n", 1)[0].decode(errors="replace")
    return CsvFile(path, len(kept), tuple(next(csv.reader([header]), ())))


def _step_of(row: bytes) -> float:
    """Step at a row, which is its first cell; none if it does not say."""
    first = row.split(b",")[0].strip(b' "')
    return int(first) if first.isdigit() else math.inf
