"""PCGrad: gradients projected off those that they conflict with."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.scaling import as_weights, unit_gramian
from mtrl_ntk.balancing.weighting import GramianWeighting, Statistics, preferred_sum

_NORM_FLOOR = 1e-150  # its square is not zero


class PCGrad(GramianWeighting):
    r"""Takes from every gradient, in random order, what points against another task's.

    Starting from :math:`p_i = g_i`, for all other tasks j in an order of task i's own,

    .. math:: p_i \leftarrow p_i - \frac{\min(0, p_i^\top g_j)}{\|g_j\|^2} g_j,

    see Yu et al., *Gradient Surgery for Multi-Task Learning*, arXiv 2001.06782, Algorithm 1. Every
    :math:`p_i` is a combination of the gradients, so the loop runs on its coefficients and the
    Gramian, over j only and for all i at once. Mean scale takes the sum of the coefficients over i,
    so that the step is the mean of the :math:`p_i`, as in the MT10 code of Meta-World's lineage;
    the paper has their sum. Weights are at least one.

    Gradients are compared as unit vectors, so that no scale matters to the arithmetic; one of zero
    conflicts with none. The published code divides by its norm, or by that plus 1e-8.
    """

    knows_preferences = True

    def __init__(
        self, num_tasks: int, config: object | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.noise_shape = (num_tasks, num_tasks)

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        gramian = statistics.jacobian.gramian()
        weights: Tensor = self(gramian, statistics.noise, statistics.preferences)
        return weights

    def forward(self, gramian: Tensor, noise: Tensor, preferences: Tensor | None = None) -> Tensor:
        """Weights ``[tasks]``.

        Args:
            gramian: Inner products of the gradients, ``[tasks, tasks]``.
            noise: Row i puts the others in task i's order, ``[tasks, tasks]``; its diagonal is not
                looked at.
            preferences: Shares of the projected gradients in their mean, ``[tasks]``.
        """
        cosines, norms, _ = unit_gramian(gramian, _NORM_FLOOR)
        identity = torch.eye(self.num_tasks, device=norms.device, dtype=norms.dtype)
        # A task's own gradient comes last, where the loop no longer looks.
        orders = noise.masked_fill(identity > 0, torch.inf).argsort(1)
        projected = identity
        for step in range(self.num_tasks - 1):
            others = orders[:, step]
            products = (projected * cosines.index_select(0, others)).sum(1)
            conflicts = products.clamp(max=0.0)
            projected = projected.scatter_add(1, others[:, None], -conflicts[:, None])
        weights = preferred_sum(norms[:, None] / norms * projected, preferences)
        return as_weights(weights, gramian)
