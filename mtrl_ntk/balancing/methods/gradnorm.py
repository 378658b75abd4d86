"""GradNorm: weights learned so that all tasks train at the same rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.adam import VectorAdam
from mtrl_ntk.balancing.weighting import Statistics, Weighting, floored
from mtrl_ntk.settings import Settings, number

_SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True)
class GradNormConfig(Settings):
    """Hyper-parameters of GradNorm."""

    gradnorm_asymmetry: float = number(0.12, at_least=0)
    """How much larger a gradient a slower task gets; 0 makes all norms equal."""
    gradnorm_learning_rate: float = number(0.025, above=0)
    """Adam step size of the weights."""
    loss_floor: float = number(1e-8, above=0, at_most=1)
    """Smallest loss that counts, as a share of the tasks' mean."""


class GradNorm(Weighting):
    r"""Learns weights whose weighted gradient norms answer to the tasks' training rates.

    With the norms :math:`G_i = w_i \|g_i\|`, their mean :math:`\bar G`, and the relative inverse
    training rates :math:`r_i`, the ratio :math:`L_i / L_i(0)` over its mean, the weights descend
    by Adam along the gradient of

    .. math:: \sum_i \big| G_i - \bar G \, r_i^\alpha \big|,

    in which the targets count as constants, and are then scaled to sum to the number of tasks:
    Chen et al., *GradNorm*, arXiv 1711.02257, Eq. 2 and Algorithm 1. That sum is mean scale
    already. The weights start at one and move after they were drawn.

    The norms are of the gradients in all shared parameters, in the paper of the last shared layer;
    the step on the weights divides them by their mean, or Adam's epsilon would stop it where
    gradients are tiny. Steps of an L1 objective can carry a weight below zero: it stops at 1e-3.
    The asymmetry is that of Meta-World+; the paper's NYUv2 runs have 1.5. LibMTL learns the
    logits of a softmax instead, with the mean losses of the first epoch as the initial ones.

    Initial losses are those of a task's first finite gradient. For a critic they say little, as its
    targets grow. A task whose gradient is not finite takes no part in the means and does not
    learn; nobody learns where no task has a gradient.
    """

    config_class = GradNormConfig
    config: GradNormConfig
    positive_losses = True
    weights: Tensor
    initial_losses: Tensor
    started: Tensor

    def __init__(
        self, num_tasks: int, config: GradNormConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("weights", torch.ones(num_tasks))
        self.register_buffer("initial_losses", torch.ones(num_tasks))
        self.register_buffer("started", torch.zeros(num_tasks, dtype=torch.bool))
        self.adam = VectorAdam(num_tasks, self.config.gradnorm_learning_rate)

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        jacobian = statistics.jacobian
        weights: Tensor = self(
            statistics.task_losses, jacobian.squared_norms().sqrt(), jacobian.finite
        )
        return weights

    def forward(self, task_losses: Tensor, norms: Tensor, finite: Tensor) -> Tensor:
        """Weights ``[tasks]`` from losses, gradient norms and which of them count ``[tasks]``."""
        weights = self.weights.clone()
        rates = self._rates(floored(task_losses, self.config.loss_floor), finite)
        weighted = weights * norms
        targets = _mean(weighted, finite) * rates**self.config.gradnorm_asymmetry
        mean_norm = _mean(norms, finite)
        gradient = norms / mean_norm * (weighted - targets).sign()
        moved = self.adam.step(self.weights, gradient, finite & (mean_norm > 0))
        moved = moved.clamp(min=_SMALLEST_WEIGHT)
        self.weights.copy_(self.num_tasks * moved / moved.sum())
        return weights.to(task_losses.dtype)

    def _rates(self, losses: Tensor, finite: Tensor) -> Tensor:
        """Relative inverse training rate of each task, ``[tasks]``."""
        self.initial_losses.copy_(torch.where(self.started, self.initial_losses, losses))
        self.started.logical_or_(finite)
        # Ratios of losses can overflow; the softmax of their logarithms is their share of the sum.
        ratios = (losses.log() - self.initial_losses.log()).masked_fill(~finite, -torch.inf)
        return ratios.softmax(0) * finite.sum()


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean of those values ``[tasks]`` that count."""
    return values.masked_fill(~where, 0.0).sum() / where.sum().clamp(min=1)
