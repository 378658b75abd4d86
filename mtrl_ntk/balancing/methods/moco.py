"""MoCo: the direction of MGDA from tracked gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.tracking import TrackingWeighting
from mtrl_ntk.balancing.weighting import Statistics
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class MoCoConfig(Settings):
    """Hyper-parameters of MoCo."""

    moco_tracking_rate: float = number(0.1, above=0, at_most=1)
    """Share of a new gradient in the tracked one, the paper's beta."""
    moco_step_size: float = number(0.1, at_least=0)
    """Step size of the simplex weights, the paper's gamma."""
    moco_regularisation: float = number(0.0, at_least=0)
    """Pull of the simplex weights to equality, the paper's rho."""
    moco_decay: float = number(0.0, at_least=0)
    """Power of the step number that both rates are divided by."""
    moco_normalise: bool = True
    """Divide inner products of tracked gradients by their mean square; no: the paper's raw form."""


class MoCo(TrackingWeighting):
    r"""Follows the shortest convex combination of moving averages of the gradients.

    Tracked gradients :math:`Y` ``[tasks, parameters]`` and weights :math:`\lambda` on the simplex
    each take one step per update,

    .. math:: Y \leftarrow Y - \beta (Y - J), \qquad
        \lambda \leftarrow \Pi_\Delta\big(\lambda - \gamma (Y Y^\top + \rho I) \lambda\big),

    and the network descends along :math:`Y^\top \lambda`: Fernando et al., *Mitigating Gradient
    Bias in Multi-objective Learning*, arXiv 2210.12624. Mean scale makes the weights
    :math:`w = k \lambda`, so that the step is the same.

    :math:`\Pi_\Delta` is the Euclidean projection, as in the paper and in the authors' code; LibMTL
    takes a softmax, and scales each gradient to the length of its loss. Rates are constant by
    default, LibMTL's both fall with the square root of the step number. Two deviations:

    - :math:`Y Y^\top` is divided by the mean of its diagonal, as the raw step of a critic's
      gradients, whose squared norms can be millions, throws all weight on one task at once.
    - A task's tracked gradient starts as its first finite gradient, not as zero: from zero, the
      first steps would be too short, most of all for a task that starts late.

    The projection of :math:`Y` onto a ball, which the paper's analysis has, is left out. A task
    whose gradient is not finite keeps its tracked one, and has no say in that step.
    """

    config_class = MoCoConfig
    config: MoCoConfig
    simplex_weights: Tensor

    def __init__(
        self, num_tasks: int, config: MoCoConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("simplex_weights", torch.full((num_tasks,), 1 / num_tasks))

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        jacobian = statistics.jacobian
        weights: Tensor = self(jacobian.gradients(), jacobian.finite)
        return weights

    def forward(self, gradients: Tensor, finite: Tensor) -> Tensor:
        """Weights ``[tasks]`` from gradients ``[tasks, parameters]`` and which of them count."""
        self.steps.add_(1)
        slowdown = self.steps.double() ** self.config.moco_decay
        self.track(gradients, finite, self.config.moco_tracking_rate / slowdown)
        descent = self._gramian() @ self.simplex_weights.double()
        moved = self.simplex_weights - self.config.moco_step_size / slowdown * descent
        self.simplex_weights.copy_(project_to_simplex(moved))
        return (self.num_tasks * self.simplex_weights).to(gradients.dtype)

    def combine(self, jacobian: Jacobian, weights: Tensor) -> Tensor:
        """The tracked gradients' weighted mean, ``[parameters]``."""
        coefficients = weights / jacobian.num_tasks
        return coefficients.to(self.tracked.dtype) @ self.tracked

    def _gramian(self) -> Tensor:
        """Inner products of the tracked gradients with the regularisation, ``[tasks, tasks]``."""
        gramian = (self.tracked @ self.tracked.mT).double()
        if self.config.moco_normalise:
            mean = gramian.diagonal().mean()
            gramian = (gramian / mean).masked_fill(mean <= 0, 0.0)
        pull = torch.eye(self.num_tasks, device=gramian.device, dtype=gramian.dtype)
        return gramian + self.config.moco_regularisation * pull


def project_to_simplex(values: Tensor) -> Tensor:
    """The point of the simplex that is closest to ``values [n]``, by sorting.

    Duchi et al., *Efficient Projections onto the l1-Ball*, ICML 2008, Figure 1.
    """
    # The projection does not see a common shift; without a large one the digits of the rest stay.
    values = values - values.max()
    ordered = values.sort(descending=True).values
    counts = torch.arange(1, len(values) + 1, device=values.device, dtype=values.dtype)
    thresholds = (ordered.cumsum(0) - 1) / counts
    last = (ordered > thresholds).sum().clamp(min=1) - 1
    return (values - thresholds.gather(0, last[None])).clamp(min=0.0)
