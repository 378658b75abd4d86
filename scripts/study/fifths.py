"""Numbers of a run's course in fifths of it, and how a line of a table shows those of some runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FIFTHS = 5

Table = NDArray[np.float64]


def in_fifths(course: Sequence[float]) -> Table:
    """Means of each fifth of what is known of a course, ``[FIFTHS]``; NaN where nothing is."""
    return np.array([mean(part) for part in np.array_split(np.array(course), FIFTHS)])


def mean(values: Table) -> float:
    """Mean of those that are finite; NaN if none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def heading() -> str:
    """Names of the fifths, the columns of a table."""
    return " | ".join(f"fifth {each}" for each in range(1, FIFTHS + 1))


def shown(found: Table) -> str:
    """Mean and range over runs of what was found in each fifth, a line of a table.

    Args:
        found: ``[runs, FIFTHS]``.
    """
    return " | ".join(
        f"{mean(of_runs):+.2f} [{np.nanmin(of_runs):+.2f}, {np.nanmax(of_runs):+.2f}]"
        if np.isfinite(of_runs).any()
        else "all are alike"
        for of_runs in found.T
    )
