"""What a supervised run hands to logs: how far it is, and what its predictions are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.layout import EVALUATION_CSV
from mtrl_ntk.experiment.logs.sink import LogKind
from mtrl_ntk.experiment.types import Counts, Evaluation

LOSS = "loss"
"""Name of what is measured of every task besides its metrics."""
METRICS = "metrics"
"""Key of ``run.json`` for what each task is measured by."""
PART = "network"
"""What tags of numbers by task say in the place of critic or actor."""
TRUNK = "trunk"
"""The same, of kernels that were looked at in the trunk whatever the method."""


@dataclass(frozen=True)
class Counters(Counts):
    """How far a supervised run has come."""

    updates: int
    """Updates; the step axis of logs."""
    epochs: int
    """Whole epochs."""
    examples: int
    """Examples that were learnt from, each as often as it was."""
    seconds: float
    """Wall-clock time since the start of the run."""


@dataclass(frozen=True)
class Scores(Evaluation):
    """The metrics of each task."""

    values: Mapping[str, Mapping[str, float]]
    """Numbers by task and metric, the loss among them; NaN where nothing was counted."""

    @property
    def task_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the tasks."""
        return tuple(self.values)

    def rows(self) -> list[dict[str, object]]:
        """A row for each task, with the columns of all."""
        columns = dict.fromkeys(name for of_task in self.values.values() for name in of_task)
        return [
            {"task": task, **{name: of_task.get(name, math.nan) for name in columns}}
            for task, of_task in self.values.items()
        ]

    def scalars(self) -> dict[str, float]:
        """The numbers by task and metric."""
        return tagged("metrics", self.values)

    def to_json(self) -> dict[str, Any]:
        """The numbers in types that JSON knows."""
        return {
            task: {name: None if math.isnan(value) else value for name, value in of_task.items()}
            for task, of_task in self.values.items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scores:
        """Reads what :meth:`to_json` has made."""
        return cls(
            {
                str(task): {
                    str(name): math.nan if value is None else float(value)
                    for name, value in of_task.items()
                }
                for task, of_task in values.items()
            }
        )


def tagged(group: str, values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Numbers by task and metric, by tag."""
    return {
        f"{group}/{task}/{name}": value
        for task, of_task in values.items()
        for name, value in of_task.items()
    }


def read_rows_of(run_dir: Path) -> list[dict[str, str]]:
    """The rows of a run's evaluations.

    Raises:
        UserError: If the file is damaged.
    """
    return read_rows(run_dir / EVALUATION_CSV, "updates", "epochs", "seconds", "task", LOSS)


def read_scores(run_dir: Path) -> dict[int, dict[str, dict[str, float]]]:
    """The evaluations of a run: by updates, task and metric, without those that have no value.

    Raises:
        UserError: If the file is damaged.
    """
    found: dict[int, dict[str, dict[str, float]]] = {}
    counts = set(Counters.__dataclass_fields__)
    for row in read_rows_of(run_dir):
        of_task = {n: float(cell) for n, cell in row.items() if cell and n not in {*counts, "task"}}
        found.setdefault(int(float(row["updates"])), {})[row["task"]] = of_task
    return found


def log_kind(task_names: Sequence[str]) -> LogKind:
    """What the logs of a supervised run have of their own."""

    def final(run_dir: Path) -> dict[str, float]:
        scores = read_scores(run_dir)
        return tagged("final", scores[max(scores)]) if scores else {}

    by_task = {task: ("Multiline", [f"metrics/{task}/.*"]) for task in task_names}
    inside = {
        group: ("Multiline", [f"training_{group}/{PART}/.*"])
        for group in ("weights", "ntk", "losses", "skipped")
    }
    return LogKind("updates", final, "metrics", {"metrics": by_task, "training": inside})
