"""DB-MTL: logarithms of the losses, and gradients of equal length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.tracking import TrackingWeighting
from mtrl_ntk.balancing.weighting import Statistics, floored
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class DBMTLConfig(Settings):
    """Hyper-parameters of DB-MTL."""

    db_mtl_decay: float = number(0.9, at_least=0, below=1)
    """Decay of the moving averages of the gradients; 0 keeps none."""
    db_mtl_decay_power: float = number(0.0, at_least=0)
    """Power of the step number that the decay is divided by; 0 keeps it constant."""
    norm_floor: float = number(1e-5, above=0, at_most=1)
    """Smallest gradient norm that is scaled up, as a share of the root mean square norm."""
    loss_floor: float = number(1e-8, above=0, at_most=1)
    """Smallest loss that counts, as a share of the tasks' mean."""


class DBMTL(TrackingWeighting):
    r"""Balances losses by their logarithm and gradients by their norm.

    With moving averages :math:`\hat g_i` of the gradients :math:`g_i / L_i` of the logarithms, the
    network descends along :math:`\sum_i \alpha_i \hat g_i`, where

    .. math:: \hat g_i \leftarrow \beta \hat g_i + (1 - \beta) \, g_i / L_i, \qquad
        \alpha_i = \max_j \|\hat g_j\| / \|\hat g_i\|,

    see Lin et al., *Dual-Balancing for Multi-Task Learning*, arXiv 2308.12029. Mean
    scale divides the sum by the number of tasks. The weights that are returned and logged are those
    of the losses, :math:`w_i = \alpha_i / L_i`.

    The averages start at a task's first finite gradient, in LibMTL at zero; their common factor
    would cancel but for tasks that start late. Losses and norms are floored relative to the tasks'
    (root) mean (square), in LibMTL raised by 1e-8. A task whose gradient is not finite keeps its
    average, and has no say in that step.
    """

    config_class = DBMTLConfig
    config: DBMTLConfig
    positive_losses = True

    def __init__(
        self, num_tasks: int, config: DBMTLConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self._losses = torch.ones(num_tasks)

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`; the losses are kept for the step."""
        jacobian = statistics.jacobian
        losses = floored(statistics.task_losses, self.config.loss_floor)
        self._losses = losses.masked_fill(statistics.task_losses.mean() <= 0, 1.0)
        gradients = jacobian.gradients() / self._losses[:, None]
        scales: Tensor = self(gradients, jacobian.finite)
        return scales / self._losses

    def forward(self, log_gradients: Tensor, finite: Tensor) -> Tensor:
        """Scales of the averaged gradients.

        Args:
            log_gradients: Gradients of the losses' logarithms, ``[tasks, parameters]``.
            finite: Which of them count, ``[tasks]``.

        Returns:
            Scales ``[tasks]``, at least one but for the floor.
        """
        self.steps.add_(1)
        decay = self.config.db_mtl_decay / self.steps.double() ** self.config.db_mtl_decay_power
        self.track(log_gradients, finite, 1.0 - decay)
        squared = _norms(self.tracked).square()
        scales: Tensor = (squared.max() / floored(squared, self.config.norm_floor**2)).sqrt()
        return scales.masked_fill(squared.max() <= 0, 1.0).to(log_gradients.dtype)

    def combine(self, jacobian: Jacobian, weights: Tensor) -> Tensor:
        """The averaged gradients' scaled mean, ``[parameters]``."""
        coefficients = weights * self._losses / jacobian.num_tasks
        return coefficients.to(self.tracked.dtype) @ self.tracked


def _norms(gradients: Tensor) -> Tensor:
    """Norms ``[tasks]`` in float64 of gradients whose squares the gradients' type may not hold."""
    # The norm of order infinity takes twenty times as long.
    largest = torch.maximum(gradients.amax(1), -gradients.amin(1))
    # A gradient over a small loss gets long. To sum its squares in float64 would take far longer.
    divisors = largest.clamp(min=torch.finfo(largest.dtype).tiny)
    relative: Tensor = torch.linalg.vector_norm(gradients / divisors[:, None], dim=1)
    return relative.double() * largest.double()
