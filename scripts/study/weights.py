"""What a method's weights follow: whether tasks gain weight once they succeed, and their kernels.

Reads ``training.csv`` of runs, and prints for critic and actor, in each fifth of the runs, as mean
and range over the runs:

- the correlation over tasks between the logarithm of their weight and their success in training,
- the same of the largest eigenvalue of their kernel, which equal weights have as well,
- how far these eigenvalues lie apart: the standard deviation over tasks of their decimal logarithm;

then each task's mean weight, and the option that holds these weights constant
(``scripts/study/controls.py``)::

    python -m scripts.study.weights sweeps/study/main/ntkmtl-seed* --csv weights.csv
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtrl_ntk.experiment.files.layout import TRAINING_CSV
from mtrl_ntk.experiment.kernels.diagnosis import PARTS
from mtrl_ntk.rl.sac import Part
from scripts.study.fifths import Table, heading, in_fifths, shown

_SUCCESS = "charts/training_success_rate"


def read_column(rows: Sequence[dict[str, str]], prefix: str, tasks: Sequence[str]) -> Table:
    """Numbers of each row and task, ``[rows, tasks]``; NaN where there is none."""
    return np.array([[float(row[f"{prefix}/{task}"] or "nan") for task in tasks] for row in rows])


def correlations(values: Table, success: Table) -> Table:
    """Correlation over tasks of the logarithm of what they have and their success, ``[FIFTHS]``.

    Args:
        values: Weights or eigenvalues of each row of the log and each task, ``[rows, tasks]``.
        success: Rates of the same.
    """
    return in_fifths([_correlation(a, b) for a, b in zip(_log10(values), success, strict=True)])


def spreads(values: Table) -> Table:
    """Standard deviation over tasks of the decimal logarithm, ``[FIFTHS]``.

    Args:
        values: Eigenvalues of each row of the log and each task, ``[rows, tasks]``.
    """
    known = [row[np.isfinite(row)] for row in _log10(values)]
    return in_fifths([float(row.std()) if len(row) else float("nan") for row in known])


def _log10(values: Table) -> Table:
    """NaN for a task that is left out, which has zero."""
    return np.log10(values, out=np.full_like(values, np.nan), where=values > 0)


def _correlation(a: Table, b: Table) -> float:
    """NaN where one of them is unknown everywhere, or is the same for all tasks."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def tasks_of(row: dict[str, str]) -> list[str]:
    """Names of the tasks whose weights a log has."""
    prefix = f"weights/{PARTS[0]}/"
    return [column.removeprefix(prefix) for column in row if column.startswith(prefix)]


class Found(NamedTuple):
    """What the fifths of a run, or of each of some runs, say of a part."""

    weight_correlation: Table
    eigenvalue_correlation: Table
    eigenvalue_spread: Table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write each run's numbers")
    options = parser.parse_args(argv)
    logs = {folder.name: _rows(folder, parser) for folder in options.runs}
    tasks = tasks_of(next(iter(logs.values()))[0])
    if any(tasks_of(rows[0]) != tasks for rows in logs.values()):
        parser.error("the runs have different tasks")
    found = {
        part: Found(*np.stack([_find(rows, part, tasks) for rows in logs.values()], axis=1))
        for part in PARTS
    }
    print(f"part | what | {heading()}")
    for part, of_part in found.items():
        for what, of_runs in zip(Found._fields, of_part, strict=True):
            print(f"{part} | {what.replace('_', ' ')} | {shown(of_runs)}")
    _print_means(logs.values(), tasks)
    if options.csv:
        _write(options.csv, found, [*logs])


def _find(rows: Sequence[dict[str, str]], part: str, tasks: Sequence[str]) -> Found:
    weights, eigenvalues, success = (
        read_column(rows, column, tasks) for column in (f"weights/{part}", f"ntk/{part}", _SUCCESS)
    )
    return Found(
        correlations(weights, success), correlations(eigenvalues, success), spreads(eigenvalues)
    )


def _print_means(logs: Iterable[Sequence[dict[str, str]]], tasks: Sequence[str]) -> None:
    """Prints each task's weights over all runs, and their geometric mean over critic and actor."""
    rows = [row for of_run in logs for row in of_run]
    means = [np.nanmean(read_column(rows, f"weights/{part}", tasks), axis=0) for part in PARTS]
    print("task | " + " | ".join(PARTS))
    for task, *of_parts in zip(tasks, *means, strict=True):
        print(f"{task} | " + " | ".join(f"{mean:.2f}" for mean in of_parts))
    print("--task-weights " + ",".join(f"{mean:.3g}" for mean in np.sqrt(np.prod(means, axis=0))))


def _write(path: Path, found: Mapping[Part, Found], runs: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("run", "part", "fifth", *Found._fields))
        for part, of_part in found.items():
            for run, of_run in zip(runs, np.stack(of_part, -1), strict=True):
                writer.writerows(
                    (run, part, fifth, *(f"{x:.3f}" for x in row))
                    for fifth, row in enumerate(of_run, 1)
                )


def _rows(folder: Path, parser: argparse.ArgumentParser) -> list[dict[str, str]]:
    try:
        with (folder / TRAINING_CSV).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        parser.error(f"{folder} holds no run: {error.strerror}")
    if not rows or not tasks_of(rows[0]):
        parser.error(f"{folder} has no weights in {TRAINING_CSV}")
    return rows


if __name__ == "__main__":
    main()
