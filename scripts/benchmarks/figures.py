"""Pictures of what an update costs: the counterparts of Figures 1 and 4 of the NTKMTL paper.

The paper shows the time of an epoch, by method and by the number of mini-batches. Here it is the
time of an update, as a multiple of the ordinary one on the same network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtrl_ntk.experiment.plots.run_plots import COLORS, DPI, INK, dress, legend, save, style
from scripts.benchmarks.agents import EQUAL, PLAIN, SEQUENTIAL, Variant

KINDS = {
    "reference": "#94a4a2",
    "losses, norms or kernels": COLORS[0],
    "inner products or whole gradients": COLORS[1],
}
"""Colours of the methods by what they ask of the tasks' gradients."""


class UpdateRow(TypedDict):
    """The cost of one part of a method's update."""

    method: str
    network: str
    tasks: int
    rows: int
    n: int
    precision: str
    part: str
    ratio: float
    """To the ordinary update of the same network in float32."""
    ratio_to_equal: float
    """To the balanced update of the same network with equal weights in float32."""
    milliseconds: float


def save_figures(rows: Sequence[UpdateRow], folder: Path) -> list[Path]:
    """Draws the cost of an update by method, for every network, by mini-batches and by tasks.

    Pictures with nothing to compare are left out.

    Args:
        rows: What was measured.
        folder: Where to; made if it is missing.

    Returns:
        The files.
    """
    exact = [row for row in rows if row["precision"] == "float32"]
    first = [row for row in exact if row["tasks"] == exact[0]["tasks"]]
    figures = {
        f"update_by_method_{network}.png": methods_figure(network, first)
        for network in dict.fromkeys(row["network"] for row in first)
    }
    figures["update_by_minibatches.png"] = minibatches_figure(first)
    figures["update_by_tasks.png"] = tasks_figure(exact)
    drawn = {folder / name: figure for name, figure in figures.items() if figure is not None}
    folder.mkdir(exist_ok=True)
    for path, figure in drawn.items():
        save(figure, path)
    return list(drawn)


def methods_figure(network: str, rows: Sequence[UpdateRow]) -> Figure | None:
    """One bar per method of a network, the cheapest first; see the paper's Figure 1."""
    chosen = sorted(_default_rows(network, rows), key=lambda row: row["ratio"])
    if len(chosen) <= len((PLAIN, EQUAL)):
        return None
    figure = Figure(figsize=(9.0, 2.0 + 0.25 * len(chosen)), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    _draw_bars(axes, chosen)
    dress(axes, f"Time of an update, {_setting(chosen[0])}, network {network}")
    axes.set_xlabel("multiples of an ordinary update", color=INK)
    axes.set_xlim(0.0, 1.1 * chosen[-1]["ratio"])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", visible=False)
    axes.tick_params("y", length=0)
    figure.legend(
        loc="outside lower center", ncols=len(KINDS), fontsize=9, frameon=False, labelcolor=INK
    )
    return figure


def _draw_bars(axes: Axes, rows: Sequence[UpdateRow]) -> None:
    for kind, color in KINDS.items():
        own = [place for place, row in enumerate(rows) if _kind(row) == kind]
        if own:
            bars = axes.barh(own, [rows[i]["ratio"] for i in own], color=color, label=kind)
            axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9, color=INK)
    axes.axvline(1.0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)


def minibatches_figure(rows: Sequence[UpdateRow]) -> Figure | None:
    """Cost over the number of mini-batches; see the paper's Figure 4.

    The sequential reference, whose cost grows with their number, would leave the others no room.
    """
    curves = _curves(row for row in rows if row["method"] != SEQUENTIAL)
    if not curves:
        return None
    numbers = sorted({row["n"] for curve in curves.values() for row in curve})
    figure = Figure(figsize=(11.0, 4.5), layout="constrained", dpi=DPI)
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"critic": "Critic", "update": f"Whole update, {_setting(rows[0])}"}
    for axes, (part, title) in zip(panels, titles.items(), strict=True):
        axes.axhline(1.0, color=INK, linewidth=1.0, linestyle="--", label=PLAIN)
        for index, (name, curve) in enumerate(curves.items()):
            own = sorted((row["n"], row["ratio"]) for row in curve if row["part"] == part)
            axes.plot(*zip(*own, strict=True), **style(index), marker="o", label=name)
        dress(axes, title)
        axes.set_xlabel("mini-batches per task, n", color=INK)
        axes.set_xlim(0.0, 1.05 * numbers[-1])
        axes.set_xticks(numbers, [str(number) for number in numbers])
    panels[0].set_ylabel("multiples of an ordinary update", color=INK)
    legend(figure, panels[0].lines)
    return figure


def tasks_figure(rows: Sequence[UpdateRow]) -> Figure | None:
    """Time of an update over the number of tasks, on the network measured first."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["part"] == "update" and row["network"] == rows[0]["network"]:
            curves.setdefault(_label(row), []).append((row["tasks"], row["ratio"]))
    numbers = sorted({row["tasks"] for row in rows})
    if len(numbers) == 1:
        return None
    figure = Figure(figsize=(7.0, 4.5), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    for index, (name, points) in enumerate(curves.items()):
        axes.plot(*zip(*sorted(points), strict=True), **style(index), marker="o", label=name)
    dress(axes, f"Time of an update, {rows[0]['rows']} rows for each task")
    axes.set_xlabel("tasks", color=INK)
    axes.set_ylabel("multiples of an ordinary update", color=INK)
    axes.set_xscale("log")
    axes.set_xlim(0.9 * numbers[0], 1.1 * numbers[-1])
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_xticks([], minor=True)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    legend(figure, axes.lines)
    return figure


def _default_rows(network: str, rows: Sequence[UpdateRow]) -> list[UpdateRow]:
    """The whole update of each method, with its default number of mini-batches if measured."""
    chosen: dict[str, UpdateRow] = {}
    for row in sorted(rows, key=lambda row: (row["n"] != _default_number(row), row["n"])):
        if row["network"] == network and row["part"] == "update":
            chosen.setdefault(row["method"], row)
    return list(chosen.values())


def _curves(rows: Iterable[UpdateRow]) -> dict[str, list[UpdateRow]]:
    """Rows by method and network, where there is more than one number of mini-batches."""
    curves: dict[str, list[UpdateRow]] = {}
    for row in rows:
        curves.setdefault(f"{row['method']}, {row['network']}", []).append(row)
    return {name: curve for name, curve in curves.items() if len({row["n"] for row in curve}) > 1}


def _variant(row: UpdateRow) -> Variant:
    return Variant(row["method"].removesuffix("_output"))


def _default_number(row: UpdateRow) -> int:
    return getattr(_variant(row).method.config_class(), "num_minibatches", 1)


def _kind(row: UpdateRow) -> str:
    if row["method"] in (PLAIN, SEQUENTIAL):
        return "reference"
    kinds = list(KINDS)
    return kinds[2] if _variant(row).method.needs_rows else kinds[1]


def _label(row: UpdateRow) -> str:
    return row["method"] if row["n"] == 1 else f"{row['method']}, n = {row['n']}"


def _setting(row: UpdateRow) -> str:
    return f"{row['tasks']} tasks, {row['rows']} rows each"
