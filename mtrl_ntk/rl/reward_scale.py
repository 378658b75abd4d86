"""What rewards are multiplied by when they are drawn; the replay keeps them as they came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
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


class ReturnNormalizer(RewardScale):
    r"""Scales each task's rewards so that its largest discounted return so far is a given number.

    Every copy adds up :math:`G \leftarrow \gamma G + r` from zero in each episode; the largest
    absolute :math:`G` of a task's copies, random actions included, is what its rewards are divided
    by. It only grows: when a first success raises it, all that was learnt so far shrinks by as
    much. A task without a reward so far keeps its rewards as they are.

    Args:
        num_tasks: Number of tasks.
        largest: What the largest return becomes.
        gamma: Discount factor.
    """

    def __init__(self, num_tasks: int, largest: float, gamma: float) -> None:
        super().__init__(num_tasks)
        self._target, self._gamma = largest, gamma
        self._returns = np.zeros((num_tasks, 0))
        self._largest = np.zeros(num_tasks)

    def observe(self, transitions: Transitions) -> None:
        """See the base class."""
        if self._returns.shape != transitions.rewards.shape:
            self._returns = np.zeros(transitions.rewards.shape)
        rewards = np.where(transitions.valid, transitions.rewards, 0)
        returns = self._gamma * self._returns + rewards
        largest = np.maximum(self._largest, np.abs(returns).max(1))
        self._returns = np.where(transitions.terminated | transitions.truncated, 0, returns)
        if (largest > self._largest).any():
            self._largest = largest
            self._write_factors()

    def _write_factors(self) -> None:
        factors = self._target / np.where(self._largest > 0, self._largest, self._target)
        self.factors.copy_(torch.from_numpy(factors)[:, None])

    def state(self) -> dict[str, Any]:
        """See the base class."""
        return {"returns": self._returns, "largest": self._largest}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See the base class."""
        if state:
            self._returns, self._largest = (state[key].numpy() for key in ("returns", "largest"))
            self._write_factors()


def make_reward_scale(
    num_tasks: int, factor: float, largest_return: float, gamma: float
) -> RewardScale:
    """Makes what scales rewards: a factor, or where it is above zero a largest return."""
    if largest_return:
        return ReturnNormalizer(num_tasks, largest_return, gamma)
    return RewardScale(num_tasks, factor)
