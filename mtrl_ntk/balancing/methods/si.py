"""Scale-invariant weights: the mean of the logarithms of the losses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtrl_ntk.balancing.weighting import LossWeighting, floored
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class SIConfig(Settings):
    """Hyper-parameters of scale-invariant weighting."""

    loss_floor: float = number(1e-8, above=0, at_most=1)
    """Smallest loss that counts, as a share of the tasks' mean."""


class SI(LossWeighting):
    r"""Minimises the mean of the losses' logarithms, so that no task's scale matters.

    .. math:: w_i = 1 / L_i,

    the baseline SI of Navon et al., *Multi-Task Learning as a Bargaining Game*, arXiv 2202.01017.
    Published code minimises the sum of the logarithms; mean scale makes it their mean.
    The geometric mean of the losses (GLS) has this gradient times a factor common to all tasks.

    Losses are floored relative to their mean; published code adds an absolute number or nothing.
    """

    config_class = SIConfig
    config: SIConfig
    positive_losses = True

    def forward(self, task_losses: Tensor) -> Tensor:
        """Weights ``[tasks]`` from losses ``[tasks]``."""
        weights = floored(task_losses, self.config.loss_floor).reciprocal()
        return weights.masked_fill(task_losses.mean() <= 0, 1.0)
