"""Parts with a state, in place of those of the package that have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtrl_ntk.rl.exploration import Exploration
from mtrl_ntk.rl.reward_scale import RewardScale
from mtrl_ntk.rl.transitions import OneStepReturns
from mtrl_ntk.rl.types import Transitions


class HeldNoise(Exploration):
    """Noise that each copy holds for two to four steps, then draws anew."""

    _held: Tensor | None = None
    _left: Tensor

    def noise(self, copies: int) -> Tensor:
        """Draws for all copies, so that the stream does not depend on who holds."""
        new = self.agent.draw_action_noise(copies)
        if self._held is None:
            self._held, self._left = new, torch.zeros(new.shape[:2], dtype=torch.int64)
        longest = 2 + torch.arange(copies).expand(new.shape[:2]) % 3
        is_over = self._left == 0
        self._held = torch.where(is_over[..., None], new, self._held)
        self._left = torch.where(is_over, longest, self._left) - 1
        return self._held

    def state(self) -> dict[str, Any]:
        """What is held, and for how long."""
        return {} if self._held is None else {"held": self._held, "left": self._left}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Holds it again."""
        self._held = state["held"].clone() if state else None
        if state:
            self._left = state["left"].clone()


class ReturnScale(RewardScale):
    """Scales each task so that its largest discounted return so far becomes ten."""

    gamma = 0.9

    def __init__(self, num_tasks: int, copies: int) -> None:
        super().__init__(num_tasks)
        self._returns = np.zeros((num_tasks, copies))
        self._largest = np.full(num_tasks, 1e-3)

    def observe(self, transitions: Transitions) -> None:
        """Adds the rewards up; an ended episode begins from zero."""
        rewards = np.where(transitions.valid, transitions.rewards, 0)
        returns = self.gamma * self._returns + rewards
        self._largest = np.maximum(self._largest, np.abs(returns).max(1))
        self._returns = np.where(transitions.terminated | transitions.truncated, 0, returns)
        self._write()

    def _write(self) -> None:
        self.factors.copy_(torch.from_numpy(10 / self._largest)[:, None])

    def state(self) -> dict[str, Any]:
        """The sums, and the largest of them."""
        return {"returns": self._returns, "largest": self._largest}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on with them."""
        self._returns, self._largest = (state[key].numpy() for key in ("returns", "largest"))
        self._write()


class LateReturns(OneStepReturns):
    """Gives every transition to the replay one step late."""

    _held: Transitions | None = None

    def add(self, transitions: Transitions) -> None:
        """Gives the replay what was held back, and holds this back."""
        if self._held is not None:
            super().add(self._held)
        self._held = transitions

    def state(self) -> dict[str, Any]:
        """What is held back."""
        return {} if self._held is None else self._held._asdict()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Holds it back again."""
        if state:
            self._held = Transitions(**{name: value.numpy() for name, value in state.items()})
