"""FairGrad: the step that shares improvement fairly between the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtrl_ntk.balancing.solvers.newton import solve_fair
from mtrl_ntk.balancing.solvers.scaling import as_weights
from mtrl_ntk.balancing.weighting import GramianWeighting
from mtrl_ntk.settings import Settings, number

_ITERATIONS = 24


@dataclass(frozen=True)
class FairGradConfig(Settings):
    """Hyper-parameters of FairGrad."""

    fairgrad_alpha: float = number(2.0, at_least=0.1, at_most=10)
    """Alpha of alpha-fairness, 0.1 to 10: 1 is Nash-MTL, more favours the task that gains least."""
    gramian_ridge: float = number(1e-5, above=0, at_most=1)
    """Share of each task's squared gradient norm that is added to it before the equations are
    solved."""


class FairGrad(GramianWeighting):
    r"""Steps along the direction that is alpha-fair to the tasks' first-order improvements.

    The sum :math:`d = \sum_i a_i g_i` with positive :math:`a` that maximises
    :math:`\sum_i (g_i^\top d)^{1 - \alpha} / (1 - \alpha)` for its length solves

    .. math:: G a = a^{-1 / \alpha},

    see Ban and Ji, *Fair Resource Allocation in Multi-Task Learning*, arXiv 2402.15638, Eq. 4 and
    Algorithm 1. Orthogonal gradients give :math:`a_i = \|g_i\|^{-2\alpha/(1+\alpha)}`: the larger
    alpha, the more a small gradient is raised. Mean scale makes the weights :math:`w = k a`, so
    that the step is :math:`d` itself. Its length goes with the power
    :math:`(1 - \alpha) / (1 + \alpha)` of the gradients': for an alpha above one, it grows while
    they shrink, until it is clipped.

    The published supervised code finds :math:`a` by scipy's least squares and multiplies the step
    by the number of tasks before it clips it to norm one. The published MT10 code takes twenty
    steps of gradient descent on the squared error of the equations, which leaves them unsolved: on
    small gradients its weights stay equal. Here they are solved, with the paper's alpha for MT10 as
    the default. The ridge bounds the weights where a positive combination of the gradients vanishes
    and the equations have no solution.
    """

    config_class = FairGradConfig
    config: FairGradConfig

    def forward(self, gramian: Tensor) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]``."""
        power, ridge = 1 / self.config.fairgrad_alpha, self.config.gramian_ridge
        values, self.residual = solve_fair(gramian, power, ridge, _ITERATIONS)
        return as_weights(self.num_tasks * values, gramian)
