"""FAMO: weights that let all losses fall at the same relative rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.solvers.adam import VectorAdam
from mtrl_ntk.balancing.weighting import LossWeighting, Statistics, floored
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class FAMOConfig(Settings):
    """Hyper-parameters of FAMO."""

    famo_learning_rate: float = number(0.025, above=0)
    """Adam step size of the task logits."""
    famo_decay: float = number(0.01, at_least=0)
    """Weight decay of the task logits, the paper's gamma."""
    loss_floor: float = number(1e-8, above=0, at_most=1)
    """Smallest loss that counts, as a share of the tasks' mean."""


class FAMO(LossWeighting):
    r"""Decreases the logarithms of all losses at an equal rate, without their gradients.

    With task logits :math:`\xi` and :math:`z = \operatorname{softmax}(\xi)`,

    .. math:: w_i = k \, c \, z_i / L_i, \qquad c = \Big(\sum_j z_j / L_j\Big)^{-1},

    see Liu et al., *FAMO: Fast Adaptive Multitask Optimization*, arXiv 2306.03792.
    After the step the logits descend along
    :math:`J^\top (\log L^\text{before} - \log L^\text{after}) + \gamma \xi` by Adam, with
    :math:`J` the Jacobian of the softmax: a task whose loss fell more than the others' loses
    weight. The paper's direction is a convex combination of the gradients; mean scale multiplies it
    by the number of tasks, so that the weights sum to it.

    The authors' code for MT10 multiplies by :math:`\sum_j z_j / L_j` where the paper and their
    supervised code divide; here it is the paper. Step size and decay are those of the MT10 runs,
    losses are floored relative to their mean instead of raised by 1e-8. The logits stay where they
    are if any loss before or after the step, or any gradient, is not finite.
    """

    config_class = FAMOConfig
    config: FAMOConfig
    positive_losses = True
    observes_step = True
    logits: Tensor
    losses_before: Tensor

    def __init__(
        self, num_tasks: int, config: FAMOConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("logits", torch.zeros(num_tasks))
        # NaN stands for a loss that is not known: no step is observed before it was announced.
        unknown = torch.full((num_tasks,), torch.nan)
        self.register_buffer("losses_before", unknown, persistent=False)
        self.adam = VectorAdam(num_tasks, self.config.famo_learning_rate, self.config.famo_decay)

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.task_losses, statistics.jacobian.finite)
        return weights

    def forward(self, task_losses: Tensor, finite: Tensor) -> Tensor:
        """Weights ``[tasks]`` from losses ``[tasks]`` and which of them count ``[tasks]``."""
        self.losses_before.copy_(task_losses.masked_fill(~finite, torch.nan))
        # The softmax of log z - log L is z / L divided by its sum.
        weights = self.num_tasks * (self.logits - self._log(task_losses)).softmax(0)
        return weights.to(task_losses.dtype)

    def observe(self, task_losses: Tensor) -> None:
        """Moves the logits by what the step did to the losses ``[tasks]``."""
        known = (is_finite(self.losses_before) & is_finite(task_losses)).all()
        fall = self._log(self.losses_before) - self._log(task_losses)
        shares = self.logits.softmax(0)
        gradient = shares * (fall - (shares * fall).sum())
        self.logits.copy_(self.adam.step(self.logits, gradient, known))

    def _log(self, task_losses: Tensor) -> Tensor:
        return floored(task_losses, self.config.loss_floor).log()
