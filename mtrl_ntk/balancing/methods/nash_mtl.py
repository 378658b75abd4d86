"""Nash-MTL: the bargaining solution of the tasks' gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.newton import fair_residual, solve_fair
from mtrl_ntk.balancing.solvers.scaling import as_weights
from mtrl_ntk.balancing.weighting import GramianWeighting
from mtrl_ntk.settings import Settings, number

_ITERATIONS = 16


@dataclass(frozen=True)
class NashMTLConfig(Settings):
    """Hyper-parameters of Nash-MTL."""

    nash_solve_every: int = number(1, at_least=1)
    """Updates from one solution to the next, whose weights are reused in between; saves no time."""
    gramian_ridge: float = number(1e-5, above=0, at_most=1)
    """Share of each task's squared gradient norm that is added to it before the equations are
    solved."""


class NashMTL(GramianWeighting):
    r"""Steps along the direction on which the tasks, bargaining for their losses, would agree.

    The sum :math:`d = \sum_i a_i g_i` with positive :math:`a` that maximises the product of the
    tasks' gains :math:`g_i^\top d` for its length solves

    .. math:: G a = 1 / a,

    see Navon et al., *Multi-Task Learning as a Bargaining Game*, arXiv 2202.01017, Section 3
    and Algorithm 1. No task's scale changes :math:`d`. Gradients of which a positive combination
    vanishes, as at a Pareto-stationary point, have no solution: a small ridge bounds the weights.

    Mean scale makes the weights :math:`w = k a`, so that the step is :math:`d` itself, and
    :math:`a^\top G a = k` gives it the length :math:`\sqrt k` whatever the gradients. The published
    code has the same :math:`a`, and clips the step to norm one by itself; here that is left to the
    agent, which does the same by default.

    The published code solves up to twenty convex programs with cvxpy, until an error of 1e-3; this
    is Newton's method on the same equations, to rounding. It solves at every call, because skipping
    calls needs a host that knows their count, but uses the solution of each ``nash_solve_every``-th
    only, as the paper's MT10 runs did with 1, 50 and 100. Tasks without a gradient at that call
    keep the weights that they had. Critic and actor have their own instances; in the only published
    code for Soft Actor-Critic, FAMO's, they overwrite each other's solution.
    """

    config_class = NashMTLConfig
    config: NashMTLConfig
    solution: Tensor
    calls: Tensor

    def __init__(
        self, num_tasks: int, config: NashMTLConfig | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__(num_tasks, config, num_parameters)
        self.register_buffer("solution", torch.ones(num_tasks))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor) -> Tensor:
        """Weights ``[tasks]`` from the Gramian ``[tasks, tasks]``."""
        ridge = self.config.gramian_ridge
        values, residual = solve_fair(gramian, 1.0, ridge, _ITERATIONS)
        solved = self.calls % self.config.nash_solve_every == 0
        weights = self._reused(as_weights(self.num_tasks * values, gramian), gramian, solved)
        of_reused = fair_residual(gramian, weights / self.num_tasks, 1.0, ridge)
        # Rounded to the Gramian's type, new weights would show no more than its digits.
        self.residual = torch.where(solved, residual, of_reused)
        return weights

    def _reused(self, weights: Tensor, gramian: Tensor, solved: Tensor) -> Tensor:
        """The new weights if they were solved for, else those kept from the last such call."""
        chosen = torch.where(solved, weights, self.solution.to(weights.dtype))
        # The solution for a task without a gradient is as large as the floor allows.
        kept = solved & (gramian.diagonal() > 0)
        self.solution.copy_(torch.where(kept, weights, self.solution.to(weights.dtype)))
        self.calls.add_(1)
        return chosen
