"""Plots of one run, drawn from its CSV files, and the look that all plots share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)
from PIL import Image

from mtrl_ntk.experiment.files.atomic import replacing
from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.layout import EVALUATION_CSV, PLOTS, TRAINING_CSV
from mtrl_ntk.experiment.types import MEAN_TASK

# The ten colours of Petroff, *Accessible Color Sequences for Data Visualization* (2021), chosen to
# stay apart for colour-blind readers, but for the second of two greys, in whose place is a dark
# blue; further tasks take them again in another line style.
COLORS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#1f3b73", "#92dadd"),
)
LINE_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (10, 2)))
INK = "#222222"
MAX_POINTS = 50
LEGEND_ROWS = 26
DPI = 100


class Axis(NamedTuple):
    """What the horizontal axis of a plot is."""

    column: str
    """The column that holds it."""
    label: str
    """What stands under it."""


ENV_STEPS = Axis("env_steps", "environment steps")


@dataclass(frozen=True)
class Curve:
    """One line of a plot: finite values, over steps."""

    steps: np.ndarray
    values: np.ndarray


def plot_run(run_dir: Path) -> list[Path]:
    """Draws the plots of a run into its folder ``plots``.

    A plot without at least two points to connect is left out.

    Args:
        run_dir: Folder with ``evaluation.csv`` and ``training.csv``.

    Returns:
        Those of ``success.png`` (``returns.png`` where nothing counts as success),
        ``weights.png``, ``ntk.png`` and ``losses.png`` that were drawn.
    """
    training = read_rows(run_dir / TRAINING_CSV, "env_steps")
    evaluations = _evaluations(run_dir)
    figures = {
        "success.png": _success_figure(evaluations),
        "returns.png": None if _has_success(evaluations) else _returns_figure(evaluations),
        "weights.png": figure_by_part(training, "weights", "Task weights"),
        "ntk.png": figure_by_part(training, "ntk", "Largest NTK eigenvalues"),
        "losses.png": figure_by_part(training, "losses", "Losses"),
    }
    folder = run_dir / PLOTS
    drawn = {folder / name: figure for name, figure in figures.items() if figure is not None}
    for path, figure in drawn.items():
        folder.mkdir(exist_ok=True)
        save(figure, path)
    return list(drawn)


def _evaluations(run_dir: Path) -> list[dict[str, str]]:
    return read_rows(run_dir / EVALUATION_CSV, "env_steps", "task", "success_rate")


def _has_success(rows: list[dict[str, str]]) -> bool:
    return any(row["success_rate"] for row in rows)


def _success_figure(rows: list[dict[str, str]]) -> Figure | None:
    figure = _evaluation_figure(rows, "success_rate", "Success rate in evaluation", "{:.0%}")
    if figure is not None:
        (axes,) = figure.axes
        use_percent(axes)
    return figure


def _returns_figure(rows: list[dict[str, str]]) -> Figure | None:
    return _evaluation_figure(rows, "mean_return", "Mean return in evaluation", "{:,.0f}")


def _evaluation_figure(
    rows: list[dict[str, str]], column: str, title: str, last: str
) -> Figure | None:
    """One line per task and one for their mean; the last values stand in the legend."""
    curves = _evaluation_curves(rows, column)
    mean = curves.pop(MEAN_TASK, None)
    if mean is None:
        return None
    figure, (axes,) = _figure(num_panels=1, num_entries=len(curves) + 1)
    for index, (task, curve) in enumerate(curves.items()):
        axes.plot(curve.steps, curve.values, **style(index), label=_with_last(task, curve, last))
    label = _with_last("mean of tasks", mean, last)
    axes.plot(mean.steps, mean.values, color=INK, linewidth=3.5, zorder=3, label=label)
    dress(axes, title)
    legend(figure, sorted(axes.lines, key=_legend_rank))
    return figure


def figure_by_part(
    rows: list[dict[str, str]],
    group: str,
    title: str,
    parts: Sequence[str] = ("critic", "actor"),
    axis: Axis = ENV_STEPS,
) -> Figure | None:
    """A panel for each part, with one line per task; None where nothing is logged.

    Args:
        rows: The rows of ``training.csv``.
        group: The quantity: ``losses``, ``weights`` or ``ntk``.
        title: What it is.
        parts: Critic and actor, or what else logs it.
        axis: The horizontal axis.
    """
    panels = {part: task_curves(rows, group, part, axis) for part in parts}
    tasks = list(dict.fromkeys(task for curves in panels.values() for task in curves))
    if not tasks:
        return None
    figure, all_axes = _figure(num_panels=len(panels), num_entries=len(tasks))
    for axes, (part, curves) in zip(all_axes, panels.items(), strict=True):
        for task, curve in curves.items():
            axes.plot(curve.steps, curve.values, **style(tasks.index(task)), label=task)
        if _is_positive(group, part):
            use_log_scale(axes)
        dress(axes, f"{title}, {part}" if len(panels) > 1 else title, label=axis.label)
        if len(rows) > MAX_POINTS:
            axes.set_xlabel(f"{axes.get_xlabel()} (medians over {len(rows) / MAX_POINTS:.0f} rows)")
    handles = {line.get_label(): line for axes in all_axes for line in axes.lines}
    legend(figure, [handles[task] for task in tasks])
    return figure


def _evaluation_curves(rows: list[dict[str, str]], column: str) -> dict[str, Curve]:
    rows_of = defaultdict(list)
    for row in rows:
        rows_of[row["task"]].append(row)
    curves = {task: _curve(rows, column) for task, rows in rows_of.items()}
    return {task: curve for task, curve in curves.items() if len(curve.steps) > 1}


def task_curves(
    rows: list[dict[str, str]], group: str, part: str, axis: Axis = ENV_STEPS
) -> dict[str, Curve]:
    """Curves of a quantity of critic or actor by task, of at least two points each.

    Args:
        rows: The rows of ``training.csv``.
        group: The quantity: ``losses``, ``weights`` or ``ntk``.
        part: ``critic`` or ``actor``, or what else logs it.
        axis: What it is over.
    """
    prefix = f"{group}/{part}/"
    columns = [column for column in (rows[0] if rows else ()) if column.startswith(prefix)]
    positive = _is_positive(group, part)
    curves = {
        column.removeprefix(prefix): _thinned(_curve(rows, column, axis, positive=positive))
        for column in columns
    }
    return {task: curve for task, curve in curves.items() if len(curve.steps) > 1}


def _is_positive(group: str, part: str) -> bool:
    """Whether the quantity lives on a log scale; the actor's loss takes either sign."""
    return (group, part) != ("losses", "actor")


def _curve(
    rows: list[dict[str, str]], column: str, axis: Axis = ENV_STEPS, *, positive: bool = False
) -> Curve:
    steps = np.array([float(row[axis.column]) for row in rows])
    values = np.array([float(row[column] or "nan") for row in rows])
    known = np.isfinite(values) & ((values > 0) | (not positive))
    return Curve(steps[known], values[known])


def _thinned(curve: Curve) -> Curve:
    """Medians of blocks: shows the course of a noisy value, whatever its scale."""
    if len(curve.steps) <= MAX_POINTS:
        return curve
    steps = np.array_split(curve.steps, MAX_POINTS)
    values = np.array_split(curve.values, MAX_POINTS)
    return Curve(
        np.array([block.mean() for block in steps]),
        np.array([np.median(block) for block in values]),
    )


def _figure(*, num_panels: int, num_entries: int) -> tuple[Figure, list[Axes]]:
    columns = math.ceil(num_entries / LEGEND_ROWS)
    rows = math.ceil(num_entries / columns)
    figure = Figure(
        figsize=(2.0 + 5.0 * num_panels + 2.4 * columns, max(5.0, 0.5 + 0.21 * rows)),
        layout="constrained",
        dpi=DPI,
    )
    return figure, list(figure.subplots(1, num_panels, sharex=True, squeeze=False)[0])


def picture(figure: Figure) -> Image.Image:
    """The figure's pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    """A picture that was saved, ``[height, width, 3]``."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def save(figure: Figure, path: Path, *, palette: bool = True) -> None:
    """Writes a figure to a PNG file.

    Args:
        figure: The figure.
        path: The file.
        palette: Keep 128 colours, which makes the file a third of the size: enough for lines, not
            for the shades of a heat map.
    """
    image = picture(figure)
    if palette:
        # Maximum coverage keeps colours of few pixels; the median cut paints one line as another.
        image = image.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with replacing(path) as unfinished:
        image.save(unfinished, optimize=True)


def save_both(figure: Figure, path: Path, *, palette: bool = True) -> None:
    """Writes a figure to a PNG and an SVG file, the same bytes for the same figure.

    Args:
        figure: The figure.
        path: Both files without their endings.
        palette: As for :func:`save`.
    """
    save(figure, path.with_name(f"{path.name}.png"), palette=palette)
    figure.set_layout_engine("none")  # laid out by now; once more would double the time
    svg = path.with_name(f"{path.name}.svg")
    with rc_context({"svg.hashsalt": "mtrl_ntk"}), replacing(svg) as unfinished:
        figure.savefig(unfinished, metadata={"Date": None})


def style(index: int) -> dict[str, Any]:
    """Colour, dashes and width of a task's line, given the task's place."""
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)],
        "linewidth": 1.5,
    }


def dress(axes: Axes, title: str, fontsize: float = 12.0, label: str = ENV_STEPS.label) -> None:
    """Gives axes over steps their title, labels and grid."""
    # It may be the name of a folder, which is no formula.
    font = {"fontsize": fontsize, "fontweight": "bold", "color": INK, "parse_math": False}
    axes.set_title(title, font, loc="left", pad=10)
    axes.set_xlabel(label, color=INK)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b0b0b0")
    axes.tick_params(color="#b0b0b0", labelcolor=INK)


def use_percent(axes: Axes) -> None:
    """Makes the vertical axis that of rates, and shows the whole width of lines at its ends."""
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for line in axes.lines:
        line.set_clip_on(False)


def use_log_scale(axes: Axes) -> None:
    """Makes the vertical axis logarithmic, with labels however little it spans."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / low < 10:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    elif high / low < 1000:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if high / low < 1000:
        axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, lines: Sequence[Line2D]) -> None:
    """Puts one legend for all panels at the right of a figure."""
    figure.legend(
        handles=lines,
        loc="outside right upper",
        ncols=math.ceil(len(lines) / LEGEND_ROWS),
        fontsize=9,
        frameon=False,
        labelcolor=INK,
        handlelength=2.4,
    )


def _with_last(name: str, curve: Curve, last: str) -> str:
    return f"{name}  {last.format(curve.values[-1])}"


def _legend_rank(line: Line2D) -> tuple[float, float]:
    """The mean first, then from the best task to the worst: the order of the lines' right ends."""
    return -line.get_linewidth(), -float(np.asarray(line.get_ydata())[-1])
