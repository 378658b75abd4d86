"""Courses of runs are told in fifths, and lines of tables from those of some runs."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.study.fifths import FIFTHS, heading, in_fifths, shown


def test_a_fifth_is_the_mean_of_what_is_known_of_it() -> None:
    nan = float("nan")
    found = in_fifths([1, 3, 2, nan, nan, nan, 0, 0, 5, 7])
    assert found == pytest.approx([2, 2, nan, 0, 6], nan_ok=True)


def test_a_line_has_mean_and_range_over_runs_in_each_fifth() -> None:
    runs = np.array([[1.0, 0.0, np.nan, 0.0, 0.5], [2.0, -1.0, np.nan, np.nan, 0.5]])
    assert shown(runs).split(" | ") == [
        "+1.50 [+1.00, +2.00]",
        "-0.50 [-1.00, +0.00]",
        "all are alike",
        "+0.00 [+0.00, +0.00]",
        "+0.50 [+0.50, +0.50]",
    ]
    assert len(heading().split(" | ")) == FIFTHS
