"""The look of each method in the pictures of a report: the same in every report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from mtrl_ntk.experiment.plots.run_plots import COLORS, INK, LINE_STYLES
from mtrl_ntk.experiment.reports.data import AnyMethod

# A method keeps its place here for good, so that it has the same colour in every report. The first
# ten, which are the likeliest to be compared, have the ten colours to themselves.
_PLACES = (
    *("ntkmtl", "equal", "pcgrad", "cagrad", "unit_norm"),
    *("ntkmtl_sr", "nash_mtl", "fairgrad", "famo", "aligned_mtl"),
    *("mgda", "moco", "sdmgrad", "imgrad", "upgrad", "imtl_g", "graddrop", "gradnorm"),
    *("db_mtl", "si", "rlw", "dwa", "uw", "stch", "go4align", "slaw"),
)

Style = Mapping[str, Any]
"""Colour, dashes and width of a line, as Matplotlib takes them."""


def method_styles(methods: Sequence[AnyMethod]) -> dict[str, Style]:
    """A style for each method by name, none twice; single-task runs are dark.

    Variants of a method share its colour and differ in their dashes.
    """
    taken: set[tuple[str, object]] = set()
    styles: dict[str, Style] = {}
    for method in sorted(methods, key=_rank):
        look = next(look for look in _looks(method) if look not in taken)
        taken.add(look)
        styles[method.name] = {"color": look[0], "linestyle": look[1], "linewidth": 1.8}
    return styles


def _rank(method: AnyMethod) -> tuple[int, str]:
    return _place(method), method.name


def _place(method: AnyMethod) -> int:
    name = method.runs[0].config.method
    return _PLACES.index(name) if name in _PLACES else len(_PLACES)


def _looks(method: AnyMethod) -> list[tuple[str, object]]:
    """Colours and dashes in the order in which a method would like them."""
    if method.is_single_task:
        return list(product((INK, *COLORS), LINE_STYLES))
    color, turn = _place(method) % len(COLORS), _place(method) // len(COLORS)
    colors = (*COLORS[color:], *COLORS[:color])
    return list(product(colors, (*LINE_STYLES[turn:], *LINE_STYLES[:turn])))
