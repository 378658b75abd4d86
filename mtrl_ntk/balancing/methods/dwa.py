"""DWA: dynamic weight average, from how fast the losses fall."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.weighting import LossWeighting, Statistics
from mtrl_ntk.settings import Settings, number

_LARGEST_RATE = 1e4  # far beyond where the softmax saturates, and finite


@dataclass(frozen=True)
class DWAConfig(Settings):
    """Hyper-parameters of dynamic weight average."""

    dwa_temperature: float = number(2.0, above=0)
    """Temperature of the softmax; higher makes weights more equal."""
    dwa_window: int = number(25, at_least=1)
    """Steps over which losses are averaged, in place of the paper's epoch."""


class DWA(LossWeighting):
    r"""Gives more weight to tasks whose losses fall more slowly.

    With :math:`\bar L_i(t)` the mean loss over window :math:`t`,

    .. math:: w_i = k \operatorname{softmax}_i(r / T), \qquad
        r_i = \bar L_i(t - 1) / \bar L_i(t - 2),

    see Liu et al., *End-to-End Multi-Task Learning with Attention*, arXiv 1803.10704. The
    weights sum to the number of tasks in the paper already, which is mean scale.

    Weights are one during the first two windows, and change when a window ends. Reinforcement
    learning has no epochs: a window is a number of steps, 25 as in the code of Nash-MTL, which
    lets its two windows slide. A critic's loss also follows its moving targets, so that the
    rate measures more than progress.

    A task whose gradient is not finite adds nothing to its averages.
    """

    config_class = DWAConfig
    config: DWAConfig
    positive_losses = True
    steps: Tensor
    counts: Tensor
    sums: Tensor
    newer: Tensor
    older: Tensor

    def __init__(
        self, num_tasks: int, config: DWAConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(num_tasks, dtype=torch.int64))
        for name in ("sums", "newer", "older"):
            self.register_buffer(name, torch.zeros(num_tasks))

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.task_losses, statistics.jacobian.finite)
        return weights

    def forward(self, task_losses: Tensor, finite: Tensor) -> Tensor:
        """Weights ``[tasks]`` from losses ``[tasks]`` and which of them count ``[tasks]``."""
        weights = self._weights()
        self.sums.add_(task_losses.clamp(min=0.0).masked_fill(~finite, 0.0))
        self.counts.add_(finite)
        self.steps.add_(1)
        self._roll(self.steps % self.config.dwa_window == 0)
        return weights.to(task_losses.dtype)

    def _weights(self) -> Tensor:
        rates = (self.newer / self.older).clamp(max=_LARGEST_RATE)
        rates = torch.where(self.older > 0, rates, 1.0)
        weights = self.num_tasks * (rates / self.config.dwa_temperature).softmax(0)
        return torch.where(self.steps >= 2 * self.config.dwa_window, weights, 1.0)

    def _roll(self, ended: Tensor) -> None:
        """Makes the sums the newest average, if the window has ended."""
        average = torch.where(self.counts > 0, self.sums / self.counts.clamp(min=1), self.newer)
        self.older.copy_(torch.where(ended, self.newer, self.older))
        self.newer.copy_(torch.where(ended, average, self.newer))
        self.sums.copy_(self.sums.masked_fill(ended, 0.0))
        self.counts.copy_(self.counts.masked_fill(ended, 0))
