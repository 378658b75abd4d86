"""Unit-norm task gradients: the baseline that NTKMTL has to be told apart from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtrl_ntk.balancing.weighting import NormWeighting, floored
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class UnitNormConfig(Settings):
    """Hyper-parameters of unit-norm weighting."""

    norm_floor: float = number(1e-5, above=0, at_most=1)
    """Smallest gradient norm that is scaled up to one, as a share of the root mean square norm."""


class UnitNorm(NormWeighting):
    """Scales every task's gradient to norm one, so that the step is the mean of unit vectors.

    This is plain gradient normalisation; losses scaled by their gradient norms are also the idea of
    *Revisit the Imbalance Optimization in Multi-task Learning*. It points where NTKMTL with one
    mini-batch and the exponent 1/2 points; that method also lets the step grow and shrink with the
    root mean square norm. Mean scale turns the sum of the unit vectors into their mean.

    Norms are floored relative to their root mean square: the noise of a task that has nothing left
    to learn is not blown up to full size.
    """

    config_class = UnitNormConfig
    config: UnitNormConfig

    def forward(self, squared_norms: Tensor) -> Tensor:
        """Weights ``[tasks]`` from squared gradient norms ``[tasks]``."""
        weights = floored(squared_norms, self.config.norm_floor**2).rsqrt()
        return weights.masked_fill(squared_norms.mean() <= 0, 1.0)
