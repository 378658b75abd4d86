"""The data that travels between environments, replay and agent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class Transitions(NamedTuple):
    """One transition of every copy of every task, as the environments give them."""

    observations: FloatArray
    """``[tasks, copies, observation]``."""
    actions: FloatArray
    """``[tasks, copies, action]``."""
    rewards: FloatArray
    """``[tasks, copies]``, unscaled."""
    next_observations: FloatArray
    """``[tasks, copies, observation]``; of an ended episode the last one, never a reset's."""
    terminated: BoolArray
    """Where the task itself ended, ``[tasks, copies]``."""
    truncated: BoolArray
    """Where the episode was cut off, ``[tasks, copies]``."""
    valid: BoolArray
    """Which may be learnt from, ``[tasks, copies]``."""


class Batch(NamedTuple):
    """Transitions of every task, in equal numbers."""

    observations: Tensor
    """``[tasks, batch, observation]``, without the task id."""
    actions: Tensor
    """``[tasks, batch, action]``, each in [-1, 1]."""
    rewards: Tensor
    """``[tasks, batch]``, unscaled; of several steps their discounted sum."""
    next_observations: Tensor
    """``[tasks, batch, observation]``; of a truncated episode the last one, never a reset's."""
    terminated: Tensor
    """``[tasks, batch]``: one where the task itself ended; where it went on or was cut off, zero
    after one step and 1 - n after n."""


Metrics = dict[str, Tensor]
"""Named results of an update on the device: a scalar, or one number per task ``[tasks]``."""
