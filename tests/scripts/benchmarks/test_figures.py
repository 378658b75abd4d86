"""Pictures of what an update costs: what is drawn of which rows, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.figures import UpdateRow, methods_figure, save_figures, tasks_figure


def a_row(method: str, n: int = 1, **changes: Any) -> UpdateRow:  # noqa: ANN401
    row: UpdateRow = {
        "method": method,
        "network": "shared",
        "tasks": 2,
        "rows": 8,
        "n": n,
        "precision": "float32",
        "part": "update",
        "ratio": 1.0,
        "ratio_to_equal": 1.0,
        "milliseconds": 5.0,
    }
    return row | changes  # type: ignore[return-value]


def test_a_picture_with_nothing_to_compare_is_left_out(tmp_path: Path) -> None:
    rows = [a_row("plain"), a_row("equal")]
    assert save_figures(rows, tmp_path) == []


def test_a_method_is_drawn_once_with_its_own_number_of_mini_batches() -> None:
    rows = [
        *[a_row("plain"), a_row("ntkmtl", 2, ratio=1.3), a_row("ntkmtl", 1, ratio=1.1)],
        *[a_row("ntkmtl_sr", 1, ratio=1.2), a_row("ntkmtl_sr", 4, ratio=1.4)],
        *[a_row("sequential", 8, ratio=9.0), a_row("ntkmtl", 1, network="multi_head")],
    ]
    figure = methods_figure("shared", rows)
    assert figure is not None
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["plain", "ntkmtl", "ntkmtl_sr, n = 4", "sequential, n = 8"]
    assert {text.get_text() for text in axes.texts} == {"1.00", "1.10", "1.40", "9.00"}


def test_the_cost_of_more_tasks_has_a_curve_for_each_method() -> None:
    methods = ("plain", "equal", "ntkmtl", "sequential")
    rows = [a_row(name, tasks=tasks) for name in methods for tasks in (3, 1)]
    figure = tasks_figure(rows)
    assert figure is not None
    low, high = figure.axes[0].get_xlim()
    assert 0.5 < low < 1
    assert 3 < high < 6
    assert [line.get_label() for line in figure.axes[0].lines] == [*methods]
    assert [np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].lines] == [[1, 3]] * 4
