"""The pictures of a report on supervised runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtrl_ntk.experiment.plots.run_plots import DPI, INK, dress
from mtrl_ntk.experiment.reports.plots import add_legend
from mtrl_ntk.experiment.reports.styles import Style
from mtrl_ntk.supervised.reports.data import Measure, SupervisedMethod
from mtrl_ntk.supervised.reports.numbers import Summary
from mtrl_ntk.supervised.scores import LOSS

MOST_PANELS = 12
"""Measures, or tasks, that a picture has room for."""
_IN_A_ROW = 4


def measures_figure(
    summaries: Sequence[Summary], measures: Sequence[Measure], styles: Mapping[str, Style]
) -> Figure:
    """Each measure of each method with its interval, a panel for each measure."""
    names = [one.method.name for one in summaries]
    figure, grid = _panels(len(measures), 0.9 + 0.26 * len(names))
    for place, (axes, measure) in enumerate(zip(grid, measures, strict=True)):
        for row, one in enumerate(summaries):
            value, low, high = one.intervals[place]
            color = styles[one.method.name]["color"]
            axes.plot([low, high], [row] * 2, color=color, linewidth=6, alpha=0.4)
            axes.plot(value, row, marker="o", color=color, markersize=6)
        axes.set_title(measure.title, loc="left", fontsize=9.5, fontweight="bold", color=INK)
        axes.set_yticks(range(len(names)), names, fontsize=9, color=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def losses_figure(methods: Sequence[SupervisedMethod], styles: Mapping[str, Style]) -> Figure:
    """Loss of each task in evaluation over updates, a panel for each task."""
    shown = [method for method in methods if not method.is_single_task]
    tasks = list(dict.fromkeys(task for method in shown for task in method.tasks))[:MOST_PANELS]
    figure, grid = _panels(len(tasks), 2.2)
    lines = {}
    for axes, task in zip(grid, tasks, strict=True):
        for method in (each for each in shown if task in each.tasks):
            steps = sorted(set.intersection(*({*run.evaluations} for run in method.runs)))
            found = [[run.evaluations[at][task] for at in steps] for run in method.runs]
            curves = np.array([[of.get(LOSS, math.nan) for of in of_run] for of_run in found])
            look, middle = styles[method.name], curves.mean(0)
            (lines[method.name],) = axes.plot(steps, middle, **look, label=method.name)
            if len(curves) > 1:
                error = curves.std(0, ddof=1) / np.sqrt(len(curves))
                ends = middle - error, middle + error
                axes.fill_between(steps, *ends, color=look["color"], alpha=0.18, linewidth=0)
        dress(axes, task, fontsize=9.5, label="updates")
    rows = -(-len(tasks) // _IN_A_ROW)
    columns = min(len(tasks), _IN_A_ROW)
    add_legend(figure, [*lines.values()], width=0.6 + 2.6 * columns, height=0.5 + 2.2 * rows)
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list]:  # type: ignore[type-arg]
    columns = min(count, _IN_A_ROW)
    rows = -(-count // columns)
    figure = Figure(figsize=(0.6 + 3.0 * columns, height * rows), layout="constrained", dpi=DPI)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])
