"""Numbers of all processes of a distributed run, so that all of them weigh the tasks alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def num_processes() -> int:
    """How many processes take a step together."""
    alone = not (distributed.is_available() and distributed.is_initialized())
    return 1 if alone else distributed.get_world_size()


def average(numbers: Tensor) -> Tensor:
    """Replaces numbers by their mean over all processes, in place."""
    if num_processes() > 1:
        distributed.all_reduce(numbers)
        numbers.div_(num_processes())
    return numbers


def average_of_squares(numbers: Tensor) -> Tensor:
    """Inner products of means over processes, each of which has its own coordinates; in place."""
    return average(numbers).div_(num_processes()) if num_processes() > 1 else numbers


def from_first(numbers: Tensor) -> Tensor:
    """Replaces numbers by those of the first process, in place."""
    if num_processes() > 1:
        distributed.broadcast(numbers, 0)
    return numbers


def is_true_everywhere(facts: Tensor) -> Tensor:
    """Which facts hold in all processes."""
    return average(facts.float()) == 1 if num_processes() > 1 else facts


def is_true_anywhere(facts: Sequence[bool], device: torch.device) -> list[bool]:
    """Which facts hold in some process."""
    if num_processes() == 1:
        return list(facts)
    found: list[bool] = (average(torch.tensor(facts, device=device).float()) > 0).tolist()
    return found
