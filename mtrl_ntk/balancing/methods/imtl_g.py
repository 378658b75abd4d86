"""IMTL-G: the step on which all tasks' unit gradients project equally."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.scaling import as_weights, unit_gramian
from mtrl_ntk.balancing.weighting import GramianWeighting
from mtrl_ntk.settings import Settings, number

_NORM_FLOOR = 1e-5
_SMALLEST_SUM = 1e-6


@dataclass(frozen=True)
class IMTLGConfig(Settings):
    """Hyper-parameters of IMTL-G."""

    imtl_g_bounded: bool = False
    """Raise negative weights to zero, which the paper does not."""
    gramian_ridge: float = number(1e-5, above=0, at_most=1)
    """Share of each task's squared gradient norm that is added to it before the equations are
    solved."""


class IMTLG(GramianWeighting):
    r"""Weights, of whatever sign, for which the step treats the tasks' directions alike.

    :math:`d = \sum_i a_i g_i` with :math:`\sum_i a_i = 1` has the same inner product with every
    unit gradient :math:`u_i = g_i / \|g_i\|`: Liu et al., *Towards Impartial Multi-task Learning*,
    ICLR 2021, IMTL-G. With the cosines R between the gradients,

    .. math:: a_i \propto x_i / \|g_i\|, \qquad R x = 1,

    which is the paper's closed form without its choice of a first task. Mean scale makes the
    weights :math:`w = k a`, so that the step is :math:`d` itself.

    Weights can be negative and large. Where gradients nearly depend on each other, x is; where its
    entries of a small gradient are negative, the sum that the paper divides by can be close to
    zero, or negative, and then d *ascends* all losses. Kurin et al., arXiv 2201.04122, found up to
    half of the weights negative and all their runs of reinforcement learning crashed.
    ``imtl_g_bounded`` raises negative entries of x to zero before the division: weights then are
    between zero and the number of tasks, no longer impartial where one was raised. Without it, a
    sum below a millionth of the sum of the absolute values counts as that.

    The ridge stands for the pseudo-inverse of other implementations: for opposite gradients, whose
    projections can only be equal at zero, it gives the d of zero that the pseudo-inverse misses.
    A gradient below 1e-5 of the root mean square norm gets the weight zero and takes no part in the
    sum, all of which it would otherwise claim.
    """

    config_class = IMTLGConfig
    config: IMTLGConfig

    def forward(self, gramian: Tensor) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]``."""
        cosines, norms, _ = unit_gramian(gramian, _NORM_FLOOR)
        ridge = torch.eye(self.num_tasks, device=norms.device, dtype=norms.dtype)
        matrix = cosines + self.config.gramian_ridge * ridge
        ones = torch.ones_like(norms)
        projections, info = torch.linalg.solve_ex(matrix, ones, check_errors=False)
        self.residual = (matrix @ projections - 1).abs().max()
        if self.config.imtl_g_bounded:
            projections = projections.clamp(min=0.0)
        shares = (projections / norms).masked_fill(norms <= _NORM_FLOOR, 0.0)
        smallest = _SMALLEST_SUM * shares.abs().sum()
        total = shares.sum()
        total = torch.where(total.abs() < smallest, torch.copysign(smallest, total), total)
        weights = self.num_tasks * shares / total
        return as_weights(weights.where(info == 0, ones), gramian)
