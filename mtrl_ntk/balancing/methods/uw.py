"""UW: weights learned as the tasks' homoscedastic uncertainties."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.adam import VectorAdam
from mtrl_ntk.balancing.weighting import LossWeighting, Statistics
from mtrl_ntk.settings import Settings, number

_BOUND = 60.0  # beyond it the exponential times a number of tasks leaves float32


@dataclass(frozen=True)
class UWConfig(Settings):
    """Hyper-parameters of uncertainty weighting."""

    uw_learning_rate: float = number(0.01, above=0)
    """Adam step size of the log variances."""


class UW(LossWeighting):
    r"""Learns the logarithm of a variance per task along with the network.

    With these :math:`s_i`, the mean over tasks of :math:`\frac12 (e^{-s_i} L_i + s_i)` is minimised
    in both, so that

    .. math:: w_i = \tfrac12 e^{-s_i},

    see Kendall et al., *Multi-Task Learning Using Uncertainty to Weigh Losses*, arXiv 1705.07115,
    with :math:`s = \log \sigma^2` and the one half on both terms for every task, as in
    FAMO's code for MT10, whose step size and :math:`s_i = 0` at the start are the defaults here.
    Mean scale divides the objective by the number of tasks; the one half stays. It makes weights
    start at 1/2 and end near :math:`1 / (2 L_i)`: the direction of SI at half its length.

    The log variances move by an Adam of their own, after the weights were drawn. For a loss that is
    not positive they fall without end, until the weight overflows; they are bounded to +-60. A
    task whose gradient is not finite keeps its log variance.
    """

    config_class = UWConfig
    config: UWConfig
    positive_losses = True
    log_variances: Tensor

    def __init__(
        self, num_tasks: int, config: UWConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("log_variances", torch.zeros(num_tasks))
        self.adam = VectorAdam(num_tasks, self.config.uw_learning_rate)

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.task_losses, statistics.jacobian.finite)
        return weights

    def forward(self, task_losses: Tensor, finite: Tensor) -> Tensor:
        """Weights ``[tasks]`` from losses ``[tasks]`` and which of them count ``[tasks]``."""
        weights = 0.5 * (-self.log_variances).exp()
        gradient = 0.5 - weights * task_losses.clamp(min=0.0)
        moved = self.adam.step(self.log_variances, gradient, finite)
        self.log_variances.copy_(moved.clamp(-_BOUND, _BOUND))
        return weights.to(task_losses.dtype)
