"""Numbers that change with the updates, computed on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda share: share,
    "cosine": lambda share: (1 - (math.pi * share).cos()) / 2,
}
"""How much of its way a number has gone, by the share of the updates that have been."""


@dataclass(frozen=True)
class Schedule:
    """A number that goes from one value to another, and stays there.

    Raises:
        ValueError: It has no updates to do so.
    """

    start: float
    """Before the first update."""
    end: float
    """After the last."""
    num_updates: int
    """Updates in which it goes there."""
    shape: str = "linear"
    """How it goes: a name in :data:`SHAPES`."""

    def __post_init__(self) -> None:
        if self.num_updates < 1:
            raise ValueError(f"num_updates is {self.num_updates}; a schedule needs at least 1")


def at(number: float | Schedule, updates: Tensor) -> float | Tensor:
    """What a number is after so many updates; a tensor on their device unless it never changes."""
    if not isinstance(number, Schedule):
        return number
    share = (updates / number.num_updates).clamp(max=1)
    return number.start + (number.end - number.start) * SHAPES[number.shape](share)
