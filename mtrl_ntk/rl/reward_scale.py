"""What rewards are multiplied by when they are drawn; the replay keeps them as they came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtrl_ntk.rl.types import Transitions


class RewardScale(nn.Module):
    """One factor per task; here always the same for all.

    A subclass that learns its factors from what happens writes them in place, as updates may be
    recorded, and keeps them in its state.

    Args:
        num_tasks: Number of tasks.
        factor: The factor.
    """

    factors: Tensor

    def __init__(self, num_tasks: int, factor: float = 1.0) -> None:
        super().__init__()
        # In float64, so that what it is converted to is the nearest number of that type.
        factors = torch.full((num_tasks, 1), factor, dtype=torch.float64)
        self.register_buffer("factors", factors, persistent=False)

    def forward(self, rewards: Tensor) -> Tensor:
        """Scales ``[tasks, batch]``."""
        return self.factors * rewards

    def observe(self, transitions: Transitions) -> None:
        """Takes note of a step, before it is learnt from."""

    def state(self) -> dict[str, Any]:
        """What the factors come from; for :meth:`restore`."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`; from an empty one where a checkpoint has none."""
