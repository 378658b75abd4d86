"""The data that travels between environments, replay and agent."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Transitions of every task, in equal numbers."""

    observations: Tensor
    """``[tasks, batch, observation]``, without the task id."""
    actions: Tensor
    """``[tasks, batch, action]``, each in [-1, 1]."""
    rewards: Tensor
    """``[tasks, batch]``, unscaled."""
    next_observations: Tensor
    """``[tasks, batch, observation]``; of a truncated episode the last one, never a reset's."""
    terminated: Tensor
    """``[tasks, batch]``: one where the task itself ended, zero where it went on or was cut off."""


Metrics = dict[str, Tensor]
"""Named results of an update on the device: a scalar, or one number per task ``[tasks]``."""
