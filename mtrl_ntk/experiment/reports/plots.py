"""Pictures of a report: learning curves, aggregates, tasks and performance profiles."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mtrl_ntk.experiment.plots.run_plots import (
    COLORS,
    DPI,
    INK,
    LEGEND_ROWS,
    dress,
    legend,
    use_percent,
)
from mtrl_ntk.experiment.reports.anchors import Anchors
from mtrl_ntk.experiment.reports.data import Method, measured
from mtrl_ntk.experiment.reports.statistics import Float64Array, performance_profile
from mtrl_ntk.experiment.reports.styles import Style
from mtrl_ntk.experiment.reports.summary import Summary

_GREY = "#b0b0b0"
_DARK_GREY = "#6e6e6e"
_GRID = "#e6e6e6"
_SUCCESS = LinearSegmentedColormap.from_list("success", ["#e6eef7", COLORS[0]])
_AGGREGATES = {
    "success": ("mean", "Mean"),
    "iqm": ("iqm", "Interquartile mean"),
    "median": ("median", "Median of tasks"),
    "gap": ("gap", "Optimality gap (less is better)"),
}
_PUBLISHED = ((0, (1.5, 2)), (0, (5, 2.5)), (0, (5, 2, 1.5, 2)))
"""Dashes of sets of published numbers, one after the other."""
_HEADING_WIDTH = 34
_PANELS_IN_A_ROW = 5
_LONGEST_LEVEL_NAME = 11


def curves_figure(
    methods: Sequence[Method], styles: Mapping[str, Style], anchors: Sequence[Anchors] = ()
) -> Figure:
    """Mean success over training, with a band of one standard error over runs.

    Of each set of published numbers one is a horizontal line, under a heading of its own in the
    legend: in the colour of its method, or grey.
    """
    figure, axes = _one_panel()
    for method in methods:
        _draw_curve(axes, method, styles[method.name])
    handles = list(axes.lines)
    for one, dashes in zip(anchors, cycle(_PUBLISHED)):
        handles += _draw_published(axes, one, methods, styles, dashes)
    use_percent(axes)
    dress(axes, f"{_measured(methods).capitalize()} in evaluation, mean of tasks")
    add_legend(figure, handles)
    return figure


def task_curves_figure(methods: Sequence[Method], styles: Mapping[str, Style]) -> Figure:
    """Success over training as in :func:`curves_figure`, a panel for each task."""
    tasks = list(dict.fromkeys(task for method in methods for task in method.tasks))
    columns = min(len(tasks), _PANELS_IN_A_ROW)
    rows = -(-len(tasks) // columns)
    figure = Figure(layout="constrained", dpi=DPI)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    lines: dict[str, Line2D] = {}
    for axes in grid.flat[len(tasks) :]:
        axes.set_visible(False)
    for task, axes in zip(tasks, grid.flat[: len(tasks)], strict=True):
        for method in (method for method in methods if task in method.tasks):
            steps, curves = method.task_curves
            of_task = curves[:, :, method.tasks.index(task)]
            lines[method.name] = _draw_lines(axes, steps, of_task, styles[method.name], method.name)
        use_percent(axes)
        dress(axes, task, fontsize=9.5)
        axes.tick_params(labelbottom=tasks.index(task) + columns >= len(tasks))
        axes.set_xlabel("")
    figure.supxlabel("environment steps", fontsize=10, color=INK)
    handles = [lines[method.name] for method in methods]
    add_legend(figure, handles, width=0.6 + 2.2 * columns, height=0.4 + 2.0 * rows)
    return figure


def _draw_curve(axes: Axes, method: Method, look: Style) -> None:
    steps, curves = method.curves
    _draw_lines(axes, steps, curves, look, f"{method.name}  {curves.mean(0)[-1]:.0%}")


def _draw_lines(
    axes: Axes, steps: Float64Array, curves: Float64Array, look: Style, label: str
) -> Line2D:
    """Draws the mean of curves ``[runs, steps]`` and a band of one standard error."""
    middle = curves.mean(0)
    (line,) = axes.plot(steps, middle, **look, marker="o", markersize=3.5, label=label)
    if len(curves) > 1:
        error = curves.std(0, ddof=1) / np.sqrt(len(curves))
        low, high = np.clip([middle - error, middle + error], 0, 1)
        axes.fill_between(steps, low, high, color=look["color"], alpha=0.18, linewidth=0)
    return line


def _draw_published(
    axes: Axes,
    anchors: Anchors,
    methods: Sequence[Method],
    styles: Mapping[str, Style],
    dashes: object,
) -> list[Line2D]:
    """Draws the line of a set; returns it below a heading that says what it is."""
    protocol = anchors.protocol
    heading = (
        f"Published under another protocol: {anchors.title} ({protocol['environment']}, horizon "
        f"{protocol['horizon']}, goals per task {protocol['goals_per_task']})"
    )
    anchor, method = anchors.best_of(methods)
    look: Any = {
        "color": styles[method.name]["color"] if method else _DARK_GREY,
        "linestyle": dashes,
        "linewidth": 1.4,
    }
    return [
        Line2D([], [], linestyle="none", label=textwrap.fill(heading, _HEADING_WIDTH)),
        axes.axhline(anchor.value, label=f"{anchor.name}  {anchor.value:.0%}", **look),
    ]


def profiles_figure(methods: Sequence[Method], styles: Mapping[str, Style]) -> Figure:
    """Share of runs and tasks whose last success rate is above each value."""
    figure, axes = _one_panel()
    thresholds = np.linspace(0, 1, 101)
    for method in methods:
        shares = performance_profile(method.final, thresholds)
        axes.step(thresholds, shares, where="post", **styles[method.name], label=method.name)
    use_percent(axes)
    dress(axes, f"Share of runs and tasks above a {_measured(methods)}")
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"{_measured(methods)} in the last evaluation", color=INK)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    add_legend(figure, axes.lines)
    return figure


def aggregates_figure(
    summaries: Sequence[Summary], styles: Mapping[str, Style], metrics: Sequence[str]
) -> Figure:
    """Aggregates of the last evaluation with their intervals, a panel each."""
    names = [summary.method.name for summary in summaries]
    figure = Figure(
        figsize=(
            1.0 + 0.08 * max(map(len, names)) + 2.6 * len(metrics),
            1.3 + 0.4 * len(names),
        ),
        layout="constrained",
        dpi=DPI,
    )
    (grid,) = figure.subplots(1, len(metrics), sharey=True, squeeze=False)
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    for axes, metric in zip(grid, metrics, strict=True):
        field, title = _AGGREGATES[metric]
        for place, summary in enumerate(summaries):
            interval = getattr(summary, field)
            color = styles[summary.method.name]["color"]
            ends = [interval.low, interval.high]
            # Any other cap would show the interval wider than it is.
            axes.plot(ends, [place] * 2, color=color, linewidth=9, solid_capstyle="butt")
            mark: Any = {"marker": "|", "color": INK, "markersize": 13, "markeredgewidth": 2}
            if np.isnan(interval.low):
                mark = {"marker": "o", "color": color, "markersize": 8}
            # Half of a mark at the end of the axis would be cut off.
            axes.plot(interval.value, place, clip_on=False, **mark)
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
        axes.set_yticks(range(len(names)), names, color=INK)
        axes.grid(axis="x", color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.margins(x=0.1)
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, 0), min(high, 1))
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_GREY)
        axes.tick_params(color=_GREY, labelcolor=INK, left=False)
    return figure


def tasks_figure(summaries: Sequence[Summary]) -> Figure:
    """Success of each method on each task, with its interval, as a heat-map."""
    tasks = list(dict.fromkeys(task for one in summaries for task in one.by_task))
    names = [summary.method.name for summary in summaries]
    upright = max(map(len, names)) > _LONGEST_LEVEL_NAME
    figure = Figure(
        figsize=(
            2.6 + 1.0 * max(len(names), 2),
            0.9 + (0.085 * max(map(len, names)) if upright else 0.2) + 0.5 * len(tasks),
        ),
        layout="constrained",
        dpi=DPI,
    )
    axes = figure.subplots()
    rates = np.array([[_rate(one, task) for one in summaries] for task in tasks])
    axes.pcolormesh(
        np.ma.masked_invalid(rates), cmap=_SUCCESS, vmin=0, vmax=1, edgecolor="white", linewidth=1.5
    )
    # Hatched where a method has no such task, which is not a rate of zero.
    axes.patch.set(facecolor="white", edgecolor=_GREY, linewidth=0, hatch="////")
    for row, task in enumerate(tasks):
        for column, summary in enumerate(summaries):
            _write_cell(axes, summary, task, (column + 0.5, row + 0.5))
    title = f"{_measured([one.method for one in summaries]).capitalize()} by task"
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)
    centres = np.arange(max(len(names), len(tasks))) + 0.5
    rotation = 90 if upright else 0
    axes.set_xticks(centres[: len(names)], names, rotation=rotation, fontsize=9.5, color=INK)
    axes.set_yticks(centres[: len(tasks)], tasks, fontsize=9.5, color=INK)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _rate(summary: Summary, task: str) -> float:
    return summary.by_task[task].value if task in summary.by_task else np.nan


def _write_cell(axes: Axes, summary: Summary, task: str, at: tuple[float, float]) -> None:
    """The rate in large and its interval in small."""
    if task not in summary.by_task:
        return
    value, low, high = summary.task_intervals[task]
    alone = np.isnan(low)
    shift = 0 if alone else 5
    common: Mapping[str, Any] = {
        "ha": "center",
        "va": "center",
        "textcoords": "offset points",
        "color": INK,
    }
    axes.annotate(f"{value:.2f}", at, xytext=(0, shift), fontsize=10.5, **common)
    if not alone:
        axes.annotate(f"{low:.2f} – {high:.2f}", at, xytext=(0, -7), fontsize=8, **common)


def _measured(methods: Sequence[Method]) -> str:
    return measured(run for method in methods for run in method.runs)


def _one_panel() -> tuple[Figure, Axes]:
    figure = Figure(layout="constrained", dpi=DPI)
    return figure, figure.subplots()


def add_legend(
    figure: Figure, handles: Sequence[Line2D], width: float = 7.5, height: float = 5.0
) -> None:
    """Puts a legend beside a plot, whose width is the same whatever the legend holds."""
    lines = [line for one in handles for line in str(one.get_label()).splitlines()]
    columns = -(-len(handles) // LEGEND_ROWS)
    width += columns * (0.9 + 0.075 * max(map(len, lines)))
    figure.set_size_inches(width, max(height, 0.5 + 0.2 * min(len(lines), LEGEND_ROWS)))
    legend(figure, handles)
