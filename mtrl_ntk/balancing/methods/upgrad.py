"""UPGrad: the mean of the tasks' gradients, each freed of its conflicts."""

from __future__ import annotations

from torch import Tensor

from mtrl_ntk.balancing.solvers.interior_point import dual_cone_projections, regularised
from mtrl_ntk.balancing.solvers.scaling import as_weights
from mtrl_ntk.balancing.weighting import GramianWeighting, preferred_sum


class UPGrad(GramianWeighting):
    r"""Projects every gradient to where it conflicts with no task, and takes the mean.

    .. math:: d = \frac1k \sum_i \pi(g_i), \qquad \pi(g) = \arg\min_{d} \|d - g\|
        \quad \text{subject to} \quad g_j^\top d \ge 0 \text{ for all } j,

    see Quinton and Rey, *Jacobian Descent for Multi-Objective Optimization*, arXiv 2406.16232,
    Section 3 and Proposition 1. No task's loss grows along :math:`-d`. A projection only adds
    positive multiples of gradients, so weights are at least one, and without conflicts they are
    one. Scaling a task scales its own projection only.

    Mean scale is the method's own: the weights are the sum over tasks of the projections'
    coefficients. The published code (TorchJD), whose weights sum where these are averaged, adds
    1e-4 of the sum of the squared norms to the Gramian's diagonal, which changes small gradients'
    coefficients; here rounding errors are added, relative to each gradient. The projection on
    dependent gradients has many coefficients, of which the small ones are taken. A task without a
    gradient keeps a weight of one. Preferences are the projections' shares in the mean.
    """

    knows_preferences = True

    def forward(self, gramian: Tensor, preferences: Tensor | None = None) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]`` and preferences ``[tasks]``."""
        combinations, self.residual = dual_cone_projections(regularised(gramian))
        return as_weights(preferred_sum(combinations, preferences), gramian)
