"""CAGrad: the worst task's best step in the neighbourhood of the mean gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mtrl_ntk.balancing.solvers.interior_point import hull_minimum, regularised
from mtrl_ntk.balancing.solvers.scaling import as_weights
from mtrl_ntk.balancing.weighting import GramianWeighting
from mtrl_ntk.settings import Settings, number

StepDivisor = Literal["one", "one_plus_c", "one_plus_c_squared"]
"""What a step of length at most 1 + c mean gradients is divided by."""

_SMALLEST_C = 1e-6


@dataclass(frozen=True)
class CAGradConfig(Settings):
    """Hyper-parameters of CAGrad."""

    cagrad_c: float = number(0.9, at_least=0)
    """Radius c of the neighbourhood, as a share of the mean gradient's norm; 0 gives equal
    weights."""
    step_divisor: StepDivisor = "one_plus_c_squared"
    """What the step is divided by."""


class CAGrad(GramianWeighting):
    r"""Takes the step near the mean gradient that serves the worst-served task best.

    With the mean gradient :math:`g_0`, it is the solution of

    .. math:: \max_d \min_i g_i^\top d \quad \text{subject to} \quad \|d - g_0\| \le c \|g_0\|,

    which the dual gives as

    .. math:: d = g_0 + c \|g_0\| \frac{g_w}{\|g_w\|}, \qquad w = \arg\min_{w \in \Delta}
        g_w^\top g_0 + c \|g_0\| \|g_w\|, \qquad g_w = \sum_i w_i g_i,

    see Liu et al., *Conflict-Averse Gradient Descent for Multi-task Learning*, arXiv 2110.14048,
    Algorithm 1. The step is then divided by :math:`1 + c^2`, as in the published MT10 code, which
    the algorithm does not have. For c below 1 training converges to a minimum of the mean loss,
    for larger c to some Pareto-stationary point.

    Mean scale makes the weights :math:`1 + k c \|g_0\| w_i / \|g_w\|` before the division, so that
    the step is d itself. No scale of all losses matters.

    The published MT10 code takes 20 gradient steps on a softmax, which end some percent above the
    minimum, and adds 1e-4 to squared norms; this is exact, with nothing added but rounding errors.
    Where :math:`g_w` vanishes, at a Pareto-stationary point, its direction is not defined: rounding
    bounds the weights, and the second term is never longer than :math:`c \|g_0\|`. A task without a
    gradient would be the worst-served always, here it is left out of the minimum.
    """

    config_class = CAGradConfig
    config: CAGradConfig

    def forward(self, gramian: Tensor) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]``."""
        c = self.config.cagrad_c
        products = regularised(gramian)
        solution = hull_minimum(products, 1 / max(c, _SMALLEST_C))
        self.residual = solution.residual
        weights = conflict_averse(products, solution.combination, c, self.config.step_divisor)
        return as_weights(weights, gramian)


def conflict_averse(
    gramian: Tensor, combination: Tensor, c: float, step_divisor: StepDivisor
) -> Tensor:
    """Weights ``[tasks]`` of the mean gradient plus c of its lengths along a combination.

    Args:
        gramian: Inner products of the tasks' gradients, ``[tasks, tasks]``.
        combination: The gradients times these numbers are a vector of norm one, ``[tasks]``.
        c: Length of what is added.
        step_divisor: What the sum is divided by.
    """
    divisor = {"one": 1.0, "one_plus_c": 1 + c, "one_plus_c_squared": 1 + c**2}[step_divisor]
    # The squares of tiny gradients can underflow and leave negative products.
    mean_norm = gramian.mean().clamp(min=0.0).sqrt()
    # Mean scale: the mean gradient has weights of one.
    return (1 + len(combination) * c * mean_norm * combination) / divisor
