"""SLAW: weights from how much the losses fluctuate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.weighting import LossWeighting, Statistics, floored
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class SLAWConfig(Settings):
    """Hyper-parameters of SLAW."""

    slaw_decay: float = number(0.99, above=0, below=1)
    """Decay of the moving averages of the losses and their squares."""
    deviation_floor: float = number(1e-5, above=0, at_most=1)
    """Smallest standard deviation of a loss that counts, as a share of the tasks' mean."""


class SLAW(LossWeighting):
    r"""Divides by the standard deviation of each loss, which estimates its gradient's norm.

    With moving averages :math:`a` of the losses and :math:`b` of their squares,

    .. math:: s_i = \sqrt{b_i - a_i^2}, \qquad w_i = \frac{k / s_i}{\sum_j 1 / s_j},

    see Crawshaw and Kosecka, *SLAW: Scaled Loss Approximate Weighting*, arXiv 2109.08218. The paper
    already makes the weights sum to the number of tasks, which is mean scale. Losses of any sign
    will do.

    The deviation follows the recursion :math:`s^2 \leftarrow \beta (s^2 + (1 - \beta)(L - a)^2)`,
    which is the same number without the difference of two squares, and is taken by ``hypot`` so
    that no square underflows. As in the authors' code, the averages of a task's first
    :math:`1/(1 - \beta)` losses are their means. Until a task has shown a second one, the others'
    mean deviation stands in for its own. Deviations are floored relative to their mean, in the
    authors' code at 1e-5. A task whose gradient is not finite keeps its averages.
    """

    config_class = SLAWConfig
    config: SLAWConfig
    counts: Tensor
    means: Tensor
    deviations: Tensor

    def __init__(
        self, num_tasks: int, config: SLAWConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("counts", torch.zeros(num_tasks, dtype=torch.int64))
        self.register_buffer("means", torch.zeros(num_tasks))
        self.register_buffer("deviations", torch.zeros(num_tasks))

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.task_losses, statistics.jacobian.finite)
        return weights

    def forward(self, task_losses: Tensor, finite: Tensor) -> Tensor:
        """Weights ``[tasks]`` from losses ``[tasks]`` and which of them count ``[tasks]``."""
        self._update(task_losses, finite)
        known = self.counts >= 2
        mean = self.deviations.masked_fill(~known, 0.0).sum() / known.sum().clamp(min=1)
        deviations = torch.where(known, self.deviations, mean)
        deviations = floored(deviations, self.config.deviation_floor)
        # Relative to the smallest, whose reciprocal alone could overflow in the sum.
        inverses = deviations.min() / deviations
        return (self.num_tasks * inverses / inverses.sum()).to(task_losses.dtype)

    def _update(self, task_losses: Tensor, finite: Tensor) -> None:
        newest = 1 - self.config.slaw_decay
        counts = self.counts + 1
        share = torch.where(counts <= round(1 / newest), 1 / counts.double(), newest)
        differences = task_losses - self.means
        means = self.means + share.to(self.means.dtype) * differences
        fresh = share.sqrt().to(self.means.dtype) * differences
        kept = (1 - share).sqrt().to(self.means.dtype)
        deviations = kept * torch.hypot(self.deviations, fresh)
        self.means.copy_(torch.where(finite, means, self.means))
        self.deviations.copy_(torch.where(finite, deviations, self.deviations))
        self.counts.add_(finite)
