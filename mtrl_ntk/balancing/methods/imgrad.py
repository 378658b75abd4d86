"""IMGrad: CAGrad with a balance that depends on how imbalanced the gradients are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.methods.cagrad import StepDivisor, conflict_averse
from mtrl_ntk.balancing.solvers.interior_point import hull_minimum, regularised
from mtrl_ntk.balancing.solvers.scaling import as_weights
from mtrl_ntk.balancing.weighting import GramianWeighting
from mtrl_ntk.settings import Settings, number

_LARGEST_PULL = 1e6


@dataclass(frozen=True)
class IMGradConfig(Settings):
    """Hyper-parameters of IMGrad."""

    imgrad_c: float = number(0.8, at_least=0)
    """Length c of what is added to the mean gradient, as a share of it; 0 gives equal weights."""
    step_divisor: StepDivisor = "one_plus_c_squared"
    """What the step is divided by."""


class IMGrad(GramianWeighting):
    r"""Steps near the mean gradient, in a direction that depends on the gradients' imbalance.

    With the mean gradient :math:`g_0`, MGDA's :math:`g_m`, the shortest point of the gradients'
    convex hull, and the cosine :math:`\kappa` of the angle between the two, small where few large
    gradients make the mean,

    .. math:: d = g_0 + c \|g_0\| \frac{g_w}{\|g_w\|}, \qquad w = \arg\min_{w \in \Delta}
        \left(\tfrac32 - \kappa\right) g_w^\top g_0 + \kappa c \|g_0\| \|g_w\|, \qquad
        g_w = \sum_i w_i g_i,

    divided by :math:`1 + c^2`. It is the method of Zhou et al., *Injecting Imbalance Sensitivity
    for Multi-Task Learning*, arXiv 2503.08006, as published in its code for NYUv2: CAGrad with
    another balance within the minimum, the same for :math:`\kappa = 3/4`. The published Cityscapes
    script multiplies only one of the inner product's terms by its factor, for want of brackets, and
    is not followed. No published code runs on MT10; c is that of the scripts.

    Mean scale makes the weights :math:`1 + k c \|g_0\| w_i / \|g_w\|` before the division, so that
    the step is d itself. No scale of all losses matters. What holds of :class:`CAGrad` for
    vanishing gradients, of one task or of the hull's shortest point, holds here.
    """

    config_class = IMGradConfig
    config: IMGradConfig

    def forward(self, gramian: Tensor) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]``."""
        c = self.config.imgrad_c
        products = regularised(gramian)
        shortest = hull_minimum(products)
        cosine = _cosine_with_mean(products, shortest.combination)
        pull = ((1.5 - cosine) / (cosine * c)).clamp(max=_LARGEST_PULL)
        solution = hull_minimum(products, pull)
        self.residual = torch.maximum(shortest.residual, solution.residual)
        weights = conflict_averse(products, solution.combination, c, self.config.step_divisor)
        return as_weights(weights, gramian)


def _cosine_with_mean(gramian: Tensor, combination: Tensor) -> Tensor:
    """Cosine between the mean gradient and a combination of norm one."""
    cosine = combination @ gramian.mean(1) / gramian.mean().sqrt()
    # That with the hull's shortest point is never negative.
    return cosine.nan_to_num(0.0).clamp(0.0, 1.0)
