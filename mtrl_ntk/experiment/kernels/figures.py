"""Pictures of tangent kernels: largest eigenvalues over training, and affinities of the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from mtrl_ntk.experiment.kernels.diagnosis import Diagnosis
from mtrl_ntk.experiment.plots.run_plots import (
    COLORS,
    DPI,
    INK,
    LEGEND_ROWS,
    Curve,
    dress,
    legend,
    picture,
    style,
    use_log_scale,
)
from mtrl_ntk.rl.sac import Part

_AGREE_OR_CONFLICT = LinearSegmentedColormap.from_list(
    "affinity", [COLORS[2], "#f0f0f0", COLORS[0]]
)
_FRAME = "#b0b0b0"
_MOST_LABELLED_CELLS = 12


@dataclass(frozen=True)
class HeatMap:
    """The affinities of one moment, or a mean of several."""

    title: str
    """What it shows."""
    affinity: npt.NDArray[np.float64]
    """``[tasks, tasks]``, in [-1, 1]."""
    task_names: Sequence[str]
    """Task of each row and column."""
    groups: Sequence[int] = ()
    """Number of each task's group, if there are groups."""

    @property
    def num_tasks(self) -> int:
        """Number of rows and columns."""
        return len(self.task_names)

    @property
    def borders(self) -> list[int]:
        """Rows before which a new group begins, unless a group lies scattered in this order."""
        changes = [row for row, (a, b) in enumerate(pairwise(self.groups), 1) if a != b]
        return changes if len(changes) < len(set(self.groups)) else []


def eigenvalue_figure(runs: Mapping[str, Mapping[str, Mapping[str, Curve]]]) -> Figure:
    """Largest eigenvalue of each task over training: a row per part, a column per run.

    Panels of a row share their axis. This is Fig. 2 of the NTKMTL paper.

    Args:
        runs: Curves by title of the run, part and task.
    """
    parts = list(dict.fromkeys(part for panels in runs.values() for part in panels))
    tasks = _tasks_of(runs)
    legend_columns = -(-len(tasks) // LEGEND_ROWS)
    figure = Figure(
        figsize=(1.5 + 4.6 * len(runs) + 2.4 * legend_columns, 0.6 + 3.8 * len(parts)),
        layout="constrained",
        dpi=DPI,
    )
    grid = figure.subplots(len(parts), len(runs), sharey="row", sharex="col", squeeze=False)
    lines: dict[str, Line2D] = {}
    for column, (title, panels) in zip(grid.T, runs.items(), strict=True):
        for axes, part in zip(column, parts, strict=True):
            for task, curve in panels.get(part, {}).items():
                (line,) = axes.plot(curve.steps, curve.values, **style(tasks.index(task)))
                lines[task] = line
            dress(axes, title if part == parts[0] else "", _title_size(title))
            axes.label_outer()
    for row, part in zip(grid, parts, strict=True):
        use_log_scale(row[0])
        row[0].set_ylabel(f"largest NTK eigenvalue, {part}", color=INK)
    _label_lines(figure, lines, tasks)
    return figure


def _tasks_of(runs: Mapping[str, Mapping[str, Mapping[str, Curve]]]) -> list[str]:
    """All tasks in the order of their first appearance."""
    return list(
        dict.fromkeys(
            task for panels in runs.values() for curves in panels.values() for task in curves
        )
    )


def _label_lines(figure: Figure, lines: Mapping[str, Line2D], tasks: Sequence[str]) -> None:
    for task, line in lines.items():
        line.set_label(task)
    legend(figure, [lines[task] for task in tasks])


def affinity_figure(rows: Sequence[Sequence[HeatMap]], limit: float | None = None) -> Figure:
    """Heat maps of task affinities, all on one scale; every row has as many.

    Args:
        rows: The panels, row by row.
        limit: Affinity of the deepest colour; by default the largest between two tasks.
    """
    maps = [panel for row in rows for panel in row]
    limit = limit or _largest(maps)
    size = max(2.4, max(panel.num_tasks * _cell_inches(panel) for panel in maps))
    figure = Figure(
        figsize=(2.6 + (size + 0.3) * len(rows[0]), 1.7 + (size + 0.7) * len(rows)),
        layout="constrained",
        dpi=DPI,
    )
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for axes, panel in zip(grid.flat, maps, strict=True):
        image = _draw(axes, panel, limit)
        _label(axes, panel)
    bar = figure.colorbar(image, ax=grid, shrink=0.8, aspect=30)
    bar.set_label("affinity: cosine of the tasks' gradients", color=INK)
    bar.ax.tick_params(color=_FRAME, labelcolor=INK)
    bar.outline.set(edgecolor=_FRAME, linewidth=0.8)
    return figure


def _cell_inches(panel: HeatMap) -> float:
    return 0.4 if _shows_numbers(panel) else 0.17


def _shows_numbers(panel: HeatMap) -> bool:
    return panel.num_tasks <= _MOST_LABELLED_CELLS


def _largest(maps: Sequence[HeatMap]) -> float:
    """Largest affinity between two tasks, whatever its sign; one if there are none or all zero."""
    others = [np.abs(_between_tasks(panel)).max(initial=0.0) for panel in maps]
    return float(max(others)) or 1.0


def _between_tasks(panel: HeatMap) -> npt.NDArray[np.float64]:
    """The affinities without the diagonal, which is one whatever the tasks."""
    others: npt.NDArray[np.float64] = np.where(np.eye(panel.num_tasks), 0.0, panel.affinity)
    return others


def _draw(axes: Axes, panel: HeatMap, limit: float) -> AxesImage:
    values = np.ma.masked_where(np.eye(panel.num_tasks, dtype=bool), panel.affinity)
    image = axes.imshow(values, cmap=_AGREE_OR_CONFLICT, vmin=-limit, vmax=limit)
    axes.patch.set(facecolor="white", edgecolor=_FRAME, linewidth=0, hatch="////")  # the diagonal
    for border in panel.borders:
        axes.axhline(border - 0.5, color=INK, linewidth=1.2)
        axes.axvline(border - 0.5, color=INK, linewidth=1.2)
    if _shows_numbers(panel):
        for (row, column), value in np.ndenumerate(panel.affinity):
            if row != column:
                color = "white" if value < -0.6 * limit else INK  # the other end is light enough
                text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".")  # no minus before zero
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return image


def _label(axes: Axes, panel: HeatMap) -> None:
    fontsize = _title_size(panel.title)
    font = {"fontsize": fontsize, "fontweight": "bold", "color": INK, "parse_math": False}
    axes.set_title(panel.title, font, loc="left", pad=8)
    names, size = panel.task_names, 8 if _shows_numbers(panel) else 6
    numbered = [f"{name}  {group}" for name, group in zip(names, panel.groups, strict=False)]
    axes.set_xticks(range(panel.num_tasks), names, rotation=90, fontsize=size, color=INK)
    axes.set_yticks(range(panel.num_tasks), numbered or names, fontsize=size, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set(color=_FRAME, linewidth=0.8)
    axes.label_outer()


def _title_size(title: str) -> float:
    """Points at which the longest line of a title still fits its panel."""
    return min(12.0, 12.0 * 38 / max(map(len, title.split("\n"))))


def affinity_image(part: Part, diagnosis: Diagnosis) -> npt.NDArray[np.uint8]:
    """A heat map of one diagnosis as pixels ``[height, width, 3]``.

    The scale does not depend on the values, so that pictures along a run can be compared.
    """
    title = f"Task affinity, {part}"
    panel = HeatMap(title, diagnosis.affinity, diagnosis.task_names.tolist())
    return np.asarray(picture(affinity_figure([[panel]], limit=1.0)))
