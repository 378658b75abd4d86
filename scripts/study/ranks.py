"""Whether two tables agree on the order of methods: the rank correlation of a column.

Each table is a CSV file with a column ``method``, such as ``methods.csv`` of a report, or published
numbers. Methods that only one of them has do not count::

    python -m scripts.study.ranks report/methods.csv published.csv --column delta_m_percent
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scipy import stats

_FEWEST = 3


class Agreement(NamedTuple):
    """How far two tables agree."""

    methods: int
    """Methods that both have."""
    correlation: float
    """Spearman's, 1 for the same order and -1 for the opposite one."""
    p: float
    """Of no correlation at all."""


def read_column(path: Path, column: str) -> dict[str, float]:
    """A column of a table by method, without what is no number."""
    with path.open(encoding="utf-8", newline="") as file:
        found = {row["method"]: float(row[column] or "nan") for row in csv.DictReader(file)}
    return {method: value for method, value in found.items() if math.isfinite(value)}


def agreement(first: dict[str, float], second: dict[str, float]) -> Agreement:
    """The rank correlation over the methods that both tables have."""
    common = [method for method in first if method in second]
    result = stats.spearmanr(*([of[method] for method in common] for of in (first, second)))
    return Agreement(len(common), float(result.statistic), float(result.pvalue))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs=2, type=Path, metavar="TABLE", help="a CSV file")
    parser.add_argument("--column", default="delta_m_percent", help="what methods are ordered by")
    options = parser.parse_args(argv)
    try:
        first, second = (read_column(path, options.column) for path in options.tables)
    except (OSError, KeyError, ValueError) as error:
        parser.error(f"a table cannot be read, or has no such column: {error}")
    if len(first.keys() & second.keys()) < _FEWEST:
        parser.error(f"the tables share fewer than {_FEWEST} methods with that column")
    found = agreement(first, second)
    print(f"{found.methods} methods, rank correlation {found.correlation:+.2f}, p {found.p:.2g}")


if __name__ == "__main__":
    main()
