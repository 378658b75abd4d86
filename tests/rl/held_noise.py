"""Exploration that keeps its noise for some steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtrl_ntk.rl.exploration import Exploration


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
