"""Values that options may have besides their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from mtrl_ntk.experiment.options.fields import Option


def example(option: Option) -> object:
    """A possible value that is not the default."""
    if option.annotation is bool:
        return not option.default
    known: dict[str, object] = {
        "method": "equal",
        "network": "multi_head",
        "preset": "other",
        "tasks": ("reach-v3",),
        "video_size": 96,
    }
    if option.name in known:
        return known[option.name]
    candidates: dict[Any, list[object]] = {
        int: [2, 4],
        float: [0.5, 0.25],
        float | None: [-3.0],
        Path | None: [Path("some/where")],
    }
    possible = candidates.get(option.annotation) or get_args(option.annotation)
    return next(each for each in possible if each != option.default)
