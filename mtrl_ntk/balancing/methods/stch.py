"""STCH: smooth Tchebycheff scalarisation, a soft maximum of the losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.weighting import LossWeighting, Statistics, floored
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class STCHConfig(Settings):
    """Hyper-parameters of smooth Tchebycheff scalarisation."""

    stch_mu: float = number(1.0, above=0)
    """Smoothness of the maximum; towards 0 the worst task only, at 1 weights of fixed ratios."""
    stch_warmup_steps: int = number(100, at_least=1)
    """Steps whose mean losses are the nadir point, the unit in which losses are compared."""
    loss_floor: float = number(1e-8, above=0, at_most=1)
    """Smallest loss that counts, as a share of the tasks' mean."""


class STCH(LossWeighting):
    r"""Minimises a smooth maximum over tasks of the losses' logarithms.

    With the nadir point :math:`n_i`, the objective
    :math:`\mu \log \sum_i \exp(\log(L_i / n_i) / \mu)` has the gradient
    :math:`\sum_i (p_i / L_i) g_i`, so that

    .. math:: w_i = k \, p_i / L_i, \qquad p = \operatorname{softmax}(\log(L / n) / \mu),

    see Lin et al., *Smooth Tchebycheff Scalarization for Multi-Objective Optimization*,
    arXiv 2402.19078, with the objectives of the authors' multi-task code: logarithms of
    losses over the nadir point, equal preferences, and the ideal point at zero. That code also
    multiplies by the number of tasks; mean scale divides its sum by it. With equal shares the
    weights are those of SI, which is what the warm-up uses, here as there.

    At :math:`\mu = 1`, the code's default, the weights are proportional to the constants
    :math:`1 / n_i`; only below it does the worst task count more. The nadir point is the mean loss
    over all of the warm-up, by default a hundred steps, so that short runs leave it too (in the
    code the last of four epochs, 1588 steps on NYUv2). A task whose gradient is not finite adds
    nothing to its mean.
    """

    config_class = STCHConfig
    config: STCHConfig
    positive_losses = True
    steps: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self, num_tasks: int, config: STCHConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(num_tasks, dtype=torch.int64))
        self.register_buffer("sums", torch.zeros(num_tasks))

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.task_losses, statistics.jacobian.finite)
        return weights

    def forward(self, task_losses: Tensor, finite: Tensor) -> Tensor:
        """Weights ``[tasks]`` from losses ``[tasks]`` and which of them count ``[tasks]``."""
        losses = floored(task_losses, self.config.loss_floor)
        warming = self.steps < self.config.stch_warmup_steps
        counted = warming & finite
        self.sums.add_(losses.masked_fill(~counted, 0.0))
        self.counts.add_(counted)
        self.steps.add_(1)
        shares = self.num_tasks * self._log_ratios(losses).div(self.config.stch_mu).softmax(0)
        weights = torch.where(warming, 1.0, shares.to(losses.dtype)) / losses
        return weights.masked_fill(task_losses.mean() <= 0, 1.0)

    def _log_ratios(self, losses: Tensor) -> Tensor:
        """Logarithm of losses over the nadir point; zero for a task that has none."""
        means = (self.sums / self.counts.clamp(min=1)).clamp(min=torch.finfo(self.sums.dtype).tiny)
        return torch.where(self.counts > 0, losses.log() - means.log(), 0.0)
