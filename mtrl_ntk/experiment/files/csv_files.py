"""CSV files: any written whole; those of a run, which may have been killed, read and checked."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.options.values import shown

Row = dict[str, object]

_COUNTERS = ("vector_steps", "env_steps", "updates", "seconds")
_TASK = "task"
_MOST_BYTES = 1 << 30


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows, at least one, which have the columns of the first one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic.write(path, text.getvalue())


def read_rows(path: Path, *required: str) -> list[dict[str, str]]:
    """The rows of ``training.csv`` or ``evaluation.csv``, none if the file is missing.

    Every row has all columns; all but a task's name are numbers, or empty where a value is unknown,
    and how far the run was is always known.

    Args:
        path: The file.
        required: Columns that it must have.

    Raises:
        UserError: If the file cannot be read, or holds something else.
    """
    if not path.is_file():
        return []
    try:
        rows = _parse(_whole_lines(path))
        _check(rows, required)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {str(error)[:200]}; leave that run out") from None
    return rows


def _whole_lines(path: Path) -> str:
    """The text but for half a line at the end, whose last number would be wrong."""
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise ValueError(f"it has {size / 1e9:.0f} GB")
    text = path.read_text(encoding="utf-8-sig")  # editors mark its beginning
    return text[: text.rfind("\n") + 1]


def _parse(text: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text)))
    if any(None in row or None in row.values() for row in rows):  # too many cells, or too few
        raise ValueError("a line has another number of cells than the first")
    return rows


def _check(rows: list[dict[str, str]], required: Sequence[str]) -> None:
    missing = [name for name in required if rows and name not in rows[0]]
    if missing:
        raise ValueError(f"there is no column {missing[0]}")
    for row in rows:
        numbers = {name: float(cell or "nan") for name, cell in row.items() if name != _TASK}
        counters = [name for name in _COUNTERS if name in numbers]
        if not all(0 <= numbers[name] < math.inf for name in counters):
            raise ValueError(f"a line says that the run was at {shown([row[n] for n in counters])}")
        rate = numbers.get("success_rate", math.nan)
        if rate < 0 or rate > 1:
            raise ValueError(f"a success rate is {shown(row['success_rate'])}")
