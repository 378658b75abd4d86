"""MGDA: the shortest convex combination of the tasks' gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.interior_point import hull_minimum, regularised
from mtrl_ntk.balancing.solvers.scaling import as_weights
from mtrl_ntk.balancing.weighting import GramianWeighting
from mtrl_ntk.settings import Settings


@dataclass(frozen=True)
class MGDAConfig(Settings):
    """Hyper-parameters of MGDA."""

    mgda_normalisation: Literal["none", "l2"] = "none"
    """Lengths of the gradients that are combined: their own, or one."""


class MGDA(GramianWeighting):
    r"""Steps along the shortest vector in the convex hull of the tasks' gradients.

    .. math:: d = \sum_i \alpha_i g_i, \qquad \alpha = \arg\min_{\alpha \in \Delta}
        \Big\| \sum_i \alpha_i g_i \Big\|^2,

    see Désidéri, *Multiple-gradient descent algorithm (MGDA) for multiobjective optimization*
    (2012), and Sener and Koltun, *Multi-Task Learning as Multi-Objective Optimization*, arXiv
    1810.04650, Eq. 3. No task's loss grows along :math:`-d`, and all that have a weight fall at the
    same rate; d vanishes where a convex combination of the gradients does. For orthogonal
    gradients :math:`\alpha_i` goes as :math:`1/\|g_i\|^2`: the smallest gradients decide.

    Mean scale makes the weights :math:`w = k \alpha`, so that the step is d itself. With ``l2`` d
    is the shortest vector in the hull of the unit gradients, so :math:`w_i = k \alpha_i/\|g_i\|`,
    as in the MT10 experiments of Kurin et al., arXiv 2201.04122; the code of Sener and Koltun,
    which has normalisation where its paper has none, takes :math:`\alpha_i` of the unit gradients
    for the weight of :math:`g_i` itself. Their other two normalisations divide by losses, which
    have to be positive.

    The published solvers stop after 100 to 250 iterations of the Frank-Wolfe method or of projected
    gradients; this one is exact. A task without a gradient would stop all others, here it is left
    out.
    """

    config_class = MGDAConfig
    config: MGDAConfig

    def forward(self, gramian: Tensor) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]``."""
        products = regularised(gramian)
        lengths = self._lengths(products)
        solution = hull_minimum(products * lengths[:, None] * lengths)
        self.residual = solution.residual
        shares = solution.combination / solution.combination.sum()
        # Mean scale of a convex combination.
        return as_weights(self.num_tasks * shares * lengths, gramian)

    def _lengths(self, gramian: Tensor) -> Tensor:
        """What the gradients are multiplied by before they are combined, ``[tasks]``."""
        squared_norms = gramian.diagonal()
        if self.config.mgda_normalisation == "none":
            return torch.ones_like(squared_norms)
        return squared_norms.rsqrt().masked_fill(squared_norms <= 0, 0.0)
