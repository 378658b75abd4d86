"""What happened inside over training: task weights and kernel eigenvalues, over a method's runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtrl_ntk.experiment.kernels.diagnosis import PARTS
from mtrl_ntk.experiment.plots.run_plots import (
    DPI,
    ENV_STEPS,
    INK,
    LEGEND_ROWS,
    Axis,
    Curve,
    dress,
    legend,
    style,
    use_log_scale,
)
from mtrl_ntk.experiment.reports.data import AnyMethod, AnyRun
from mtrl_ntk.experiment.reports.statistics import Float64Array

TRACED = {"weights": "Task weights", "ntk": "Largest NTK eigenvalues"}
"""What is drawn, with its title."""
_TITLE_WIDTH = 44
_MOST_BANDS = 4  # more lie over each other and hide the lines


class Trace(NamedTuple):
    """A positive quantity over training, of all runs of a method."""

    steps: Float64Array
    """Environment steps, ``[points]``."""
    middle: Float64Array
    """Geometric mean over the runs: these quantities live on a log scale."""
    low: Float64Array
    """The least of the runs."""
    high: Float64Array
    """The greatest of the runs."""


def traces(method: AnyMethod, quantity: str, part: str) -> dict[str, Trace]:
    """A quantity of each task that all runs of a method have logged.

    Args:
        method: The runs.
        quantity: ``weights`` or ``ntk``.
        part: ``critic`` or ``actor``, or what else logs it.
    """
    of_runs = [_curves(run, quantity, part) for run in method.runs]
    shared = [task for task in method.tasks if all(task in curves for curves in of_runs)]
    merged = {task: _merged([curves[task] for curves in of_runs]) for task in shared}
    return {task: trace for task, trace in merged.items() if len(trace.steps) > 1}


def _curves(run: AnyRun, quantity: str, part: str) -> Mapping[str, Curve]:
    return run.logged.get((quantity, part), {})


def _merged(curves: Sequence[Curve]) -> Trace:
    """One trace, at the points of the curve with the fewest that lie within all of them."""
    first = max(curve.steps[0] for curve in curves)
    last = min(curve.steps[-1] for curve in curves)
    points = min((curve.steps for curve in curves), key=len)
    steps = points[(points >= first) & (points <= last)]
    # Runs with another interval of the log have other points: what lies between is a line.
    logs = [np.interp(steps, curve.steps, np.log(curve.values)) for curve in curves]
    values = np.exp(np.stack(logs))
    return Trace(steps, np.exp(np.mean(logs, 0)), values.min(0), values.max(0))


def traced(
    methods: Sequence[AnyMethod], quantity: str, parts: Sequence[str] = PARTS
) -> dict[str, dict[str, dict[str, Trace]]]:
    """The traces of all methods that have some, by method, part and task."""
    found = {
        method.name: {part: traces(method, quantity, part) for part in parts} for method in methods
    }
    return {name: parts for name, parts in found.items() if any(parts.values())}


def traces_figure(
    traced: Mapping[str, Mapping[str, Mapping[str, Trace]]],
    quantity: str,
    axis: Axis = ENV_STEPS,
) -> Figure:
    """A quantity of each task over training: a row per method, a column per part.

    Args:
        traced: By method, part and task.
        quantity: ``weights`` or ``ntk``.
        axis: What they are over.
    """
    parts = list(next(iter(traced.values())))
    tasks = list(
        dict.fromkeys(task for of in traced.values() for part in of.values() for task in part)
    )
    columns = -(-len(tasks) // LEGEND_ROWS)
    height = max(0.7 + 2.3 * len(traced), 0.5 + 0.21 * min(len(tasks), LEGEND_ROWS))
    figure = Figure(figsize=(9.0 + 2.4 * columns, height), layout="constrained", dpi=DPI)
    share: Any = "col" if quantity == "ntk" else False
    grid = figure.subplots(len(traced), len(parts), sharex=True, sharey=share, squeeze=False)
    for row, (method, of_parts) in zip(grid, traced.items(), strict=True):
        for axes, part in zip(row, parts, strict=True):
            _draw_traces(axes, of_parts[part], tasks)
            title = textwrap.fill(f"{method}, {part}", _TITLE_WIDTH)
            dress(axes, title, fontsize=10.5, label=axis.label)
    for axes in grid[:-1].flat:
        axes.set_xlabel("")
    for axes in grid.flat:
        use_log_scale(axes)
    figure.suptitle(TRACED[quantity], x=0.01, ha="left", fontweight="bold", color=INK)
    handles = {line.get_label(): line for axes in grid.flat for line in axes.lines}
    legend(figure, [handles[task] for task in tasks])
    return figure


def _draw_traces(axes: Axes, of_tasks: Mapping[str, Trace], tasks: Sequence[str]) -> None:
    if len(of_tasks) > 1 and len({trace.middle.tobytes() for trace in of_tasks.values()}) == 1:
        # Only the last of the lines shows, which would look as if the others were missing.
        note, fraction = "the same for all tasks", axes.transAxes
        axes.text(0.5, 0.62, note, transform=fraction, ha="center", color=INK, fontsize=9)
    for task, trace in of_tasks.items():
        look = style(tasks.index(task))
        axes.plot(trace.steps, trace.middle, **look, label=task)
        if len(of_tasks) <= _MOST_BANDS:
            ends = trace.low, trace.high
            axes.fill_between(trace.steps, *ends, color=look["color"], alpha=0.12, linewidth=0)
