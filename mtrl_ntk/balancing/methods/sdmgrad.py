"""SDMGrad: MGDA regularised towards the mean gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.interior_point import hull_minimum, regularised
from mtrl_ntk.balancing.solvers.scaling import as_weights
from mtrl_ntk.balancing.weighting import GramianWeighting
from mtrl_ntk.settings import Settings, number


@dataclass(frozen=True)
class SDMGradConfig(Settings):
    """Hyper-parameters of SDMGrad."""

    sdmgrad_lambda: float = number(0.6, at_least=0)
    """Pull towards the mean gradient; 0 gives MGDA, large values give equal weights."""


class SDMGrad(GramianWeighting):
    r"""Steps along a compromise between MGDA's direction and the mean gradient.

    .. math:: d = \frac{g_w + \lambda g_0}{1 + \lambda}, \qquad w = \arg\min_{w \in \Delta}
        \tfrac12 \| g_w + \lambda g_0 \|^2, \qquad g_w = \sum_i w_i g_i,

    with the mean gradient :math:`g_0`, see Xiao, Ban and Ji, *Direction-oriented Multi-objective
    Learning: Simple and Provable Stochastic Algorithms*, arXiv 2305.18409. As the weights sum to
    one, w is MGDA's for the gradients :math:`g_i + \lambda g_0`.

    Mean scale makes the weights :math:`(k w_i + \lambda) / (1 + \lambda)`, which sum to k. The
    division, which is the published code's, keeps the step as long as a mean of gradients.

    The paper draws three batches per step: products of two independent ones make the gradient of w
    unbiased, and the third one makes the step. Here, as in the published MT10 code, one batch
    serves for all: the noise of a task's gradient adds to its squared norm, as in MGDA, and takes
    weight from it. The published code takes 20 projected gradient steps from the w of the last
    call, and lets critic, actor and temperature overwrite each other's w; this is the exact
    minimum, and nothing is kept. A task without a gradient is left out of the minimum.
    """

    config_class = SDMGradConfig
    config: SDMGradConfig

    def forward(self, gramian: Tensor) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]``."""
        pull = self.config.sdmgrad_lambda
        solution = hull_minimum(_pulled(regularised(gramian), pull))
        self.residual = solution.residual
        shares = solution.combination / solution.combination.sum()
        # Mean scale of two convex combinations.
        return as_weights((self.num_tasks * shares + pull) / (1 + pull), gramian)


def _pulled(gramian: Tensor, pull: float) -> Tensor:
    """The Gramian of the gradients plus a multiple of their mean; zeros stay zeros."""
    with_mean = gramian.mean(1)
    pulled = gramian + pull * (with_mean[:, None] + with_mean) + pull**2 * gramian.mean()
    squared_norms = gramian.diagonal()
    # Of a gradient that the pull cancels, rounding can leave a square below zero.
    smallest = torch.finfo(gramian.dtype).eps * squared_norms
    pulled = pulled + torch.diag_embed((smallest - pulled.diagonal()).clamp(min=0.0))
    empty = squared_norms <= 0
    return pulled.masked_fill(empty[:, None] | empty, 0.0)
