"""Convex problems over combinations of gradients, solved by an interior-point method.

Most Gramians are solved to 1e-9 by ten iterations, and by twenty those of ten tasks that Newton's
method finds hard: gradients of which a convex combination vanishes. Of more tasks some need thirty,
where a combination nearly vanishes and the norms differ by a thousand. If gradients of which one
vanishes differ in length by 1e8 and more, some of the minima against a pull are still on their way,
which the residual tells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.scaling import UnitGramian, unit_gramian

_ITERATIONS = 20
_ITERATIONS_OF_MANY = 32
_FEW_TASKS = 10
_FURTHEST = 0.99  # of the way to where the first entry would become zero
_COMPLEMENTARITY = 1e-13  # product of a variable and its slack that counts as zero
_RIDGE = 1e-12  # what rounding in float64 may do to a cosine
_NORM_FLOOR = 1e-30


class HullMinimum(NamedTuple):
    """A point of the convex hull of the gradients."""

    combination: Tensor
    """The point, scaled to norm one, is the sum of the gradients times these numbers of at least
    zero; divided by their sum they are the point's convex weights. Float64 ``[tasks]``."""
    residual: Tensor
    """Excess of the objective over its minimum as a share of the point's norm, by an estimate from
    the optimality conditions; a scalar. For MGDA it is how far the step's squared length is from
    the least, relative to itself."""


class DualConeProjections(NamedTuple):
    """Projections of the gradients onto their dual cone: what conflicts with none of them."""

    combinations: Tensor
    """Row i times the gradients is task i's projection, float64 ``[tasks, tasks]``."""
    residual: Tensor
    """Excess of the largest squared distance of a unit gradient to its projection, by an estimate
    from the optimality conditions; a scalar."""


def regularised(gramian: Tensor) -> Tensor:
    """The Gramian in float64, made positive definite.

    Every squared norm is raised by the rounding error of the Gramian's type. In float64 nothing is
    seen of it; in float32 and for ten tasks, gradients of which a convex combination is a thousand
    times shorter than they are themselves are those whose solution it changes.

    Args:
        gramian: Inner products of the tasks' gradients, ``[tasks, tasks]``.
    """
    rounding = len(gramian) * torch.finfo(gramian.dtype).eps
    gramian = gramian.double()
    return gramian + torch.diag_embed(rounding * gramian.diagonal())


def hull_minimum(gramian: Tensor, pull: Tensor | float = 0.0) -> HullMinimum:
    r"""Finds the shortest point of the gradients' convex hull, or one that opposes their mean.

    With :math:`g_w = \sum_i w_i g_i`, convex weights :math:`w`, the mean gradient :math:`g_0` and
    the pull :math:`\rho`, it minimises

    .. math:: \|g_w\| + \rho\, \frac{g_w^\top g_0}{\|g_0\|}.

    With no pull this is MGDA's problem (arXiv 1810.04650), and with one over c the dual of CAGrad's
    (arXiv 2110.14048). Tasks without a gradient are left out: their point zero would win, and the
    others stand still.

    Args:
        gramian: Positive definite inner products of the gradients, float64 ``[tasks, tasks]``.
        pull: At least zero; a number or a scalar.
    """
    unit = unit_gramian(gramian, _NORM_FLOOR)
    matrix = _with_ridge(unit.cosines)
    products = matrix @ unit.norms
    linear = pull * products / _norm(products, unit.norms)
    lengths = _inverse_norms(gramian, unit)
    point, residual = _ratio_minimum(matrix, linear, lengths / lengths.amax())
    return HullMinimum(point * lengths / unit.root_mean_square, residual)


def dual_cone_projections(gramian: Tensor) -> DualConeProjections:
    r"""Projects every gradient onto the vectors whose products with all gradients are at least 0.

    The projection of :math:`g_i` is the combination with the coefficients

    .. math:: \arg\min_v \; v^\top G v \quad \text{subject to} \quad v \ge e_i,

    see Quinton and Rey, arXiv 2406.16232, Proposition 1. All tasks are solved at once.

    Args:
        gramian: Positive definite inner products of the gradients, float64 ``[tasks, tasks]``.
    """
    unit = unit_gramian(gramian, _NORM_FLOOR)
    matrix = _with_ridge(unit.cosines)
    added, residual = _minimum(matrix, matrix)
    identity = torch.eye(len(matrix), device=matrix.device, dtype=matrix.dtype)
    lengths = _inverse_norms(gramian, unit)
    return DualConeProjections(identity + unit.norms[:, None] * added * lengths, residual)


def _with_ridge(cosines: Tensor) -> Tensor:
    return cosines + torch.diag_embed(torch.full_like(cosines[0], _RIDGE))


def _inverse_norms(gramian: Tensor, unit: UnitGramian) -> Tensor:
    """One over the norms ``[tasks]``; zero for a task without a gradient, unless all have none."""
    counted = gramian.diagonal() > 0
    return (counted | ~counted.any()) / unit.norms


def _minimum(matrix: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    r"""Minimises :math:`\frac12 x^\top Q x + p^\top x` over :math:`x \ge 0`.

    Args:
        matrix: Q, positive definite with a unit diagonal, ``[n, n]``.
        linear: p of each problem, ``[..., n]``.

    Returns:
        x, ``[..., n]``, and the largest excess of the objective.
    """
    variables = _start(linear)
    for _ in range(_num_iterations(matrix)):
        variables = _step(matrix, variables[0] @ matrix + linear, variables)
    point = variables[0]
    return point, _excess(point, point @ matrix + linear)


def _ratio_minimum(matrix: Tensor, linear: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    r"""Minimises :math:`(\|x\|_Q + p^\top x) / a^\top x` over :math:`x \ge 0`.

    Scaled to norm one, the minimiser is also that of
    :math:`\frac12 x^\top Q x + (p - ta)^\top x`, if t is the ratio's minimum. So t is set to the
    lowest ratio seen, as in Dinkelbach's method, and each iteration takes one step towards the
    minimiser for this t. Close to the minimum the error of t is the square of that of x, and falls
    with it. A lower t raises the gradient by a multiple of a, and the slack follows exactly.

    The problem could be stated as the minimum of the numerator over :math:`a^\top x = 1`. But where
    the norm can be zero, Newton's method does not get along with its kink, and it makes its way to
    the boundary from there in steps too small to arrive.

    Args:
        matrix: Q, positive definite with a unit diagonal, ``[n, n]``.
        linear: p, ``[n]``.
        normal: a, at least zero and one at most, ``[n]``.

    Returns:
        x of norm one, ``[n]``, and the excess of the ratio's numerator.
    """
    point, slack = _start(linear)
    product = point @ matrix
    vertices = (1 + linear) / normal
    lowest = torch.minimum(vertices.amin(), _ratio(product, linear, normal, point))
    # Where the best vertex makes a large slack, a small variable is the one that goes with it.
    larger_slack = torch.maximum(slack, product + linear - lowest * normal)
    variables = torch.stack((point * slack / larger_slack, larger_slack))
    for _ in range(_num_iterations(matrix)):
        point, slack = variables
        product = point @ matrix
        ratio = torch.minimum(lowest, _ratio(product, linear, normal, point))
        variables = torch.stack((point, slack + (lowest - ratio) * normal))
        lowest = ratio
        variables = _step(matrix, product + linear - lowest * normal, variables)
    point = variables[0]
    point = point / _norm(point @ matrix, point)
    product = point @ matrix
    ratio = _ratio(product, linear, normal, point)
    return point, _excess(point, product + linear - ratio * normal)


def _num_iterations(matrix: Tensor) -> int:
    return _ITERATIONS if len(matrix) <= _FEW_TASKS else _ITERATIONS_OF_MANY


def _norm(product: Tensor, point: Tensor) -> Tensor:
    """Norm of a vector, from its product with the matrix."""
    # Rounding can leave less than the matrix' ridge makes of a vector of length one.
    return (product @ point).clamp(min=_RIDGE).sqrt()


def _ratio(product: Tensor, linear: Tensor, normal: Tensor, point: Tensor) -> Tensor:
    return (_norm(product, point) + linear @ point) / (normal @ point)


def _start(linear: Tensor) -> Tensor:
    """Equal variables, and slacks as large as gradients may be, ``[2, ..., n]``."""
    point = torch.full_like(linear, linear.shape[-1] ** -0.5)
    slack = 1 + linear.abs().mean(-1, keepdim=True)
    return torch.stack((point, slack.expand_as(linear)))


def _step(matrix: Tensor, gradient: Tensor, variables: Tensor) -> Tensor:
    r"""One step of Mehrotra's predictor-corrector method.

    It is taken towards :math:`\nabla f(x) = s` and :math:`x_i s_i = \mu` for all i: first on trial
    for :math:`\mu = 0`, then for the :math:`\mu` that the trial shows to be within reach and with
    the trial's own second-order error taken back. It ends short of where the first x or s would
    become zero. See Nocedal and Wright, *Numerical Optimization*, Algorithm 16.4.

    Args:
        matrix: Hessian of f, ``[n, n]``.
        gradient: Gradient of f at x, ``[..., n]``.
        variables: x and the slack s, above zero, ``[2, ..., n]``.

    Returns:
        x and s after the step.
    """
    point, slack = variables
    stiffness = slack / point
    hessian = matrix + torch.diag_embed(stiffness)
    factor, failed = torch.linalg.cholesky_ex(hessian, check_errors=False)

    def changes(push: Tensor | float) -> Tensor:
        step = torch.cholesky_solve((push - gradient)[..., None], factor)[..., 0]
        return torch.stack((step, push - slack - stiffness * step))

    trial = changes(0.0)
    present = (point * slack).mean(-1, keepdim=True)
    reached = (variables + _length(variables, trial) * trial).prod(0).mean(-1, keepdim=True)
    centre = (reached.square() / present).clamp(min=_COMPLEMENTARITY)
    step = changes((centre - trial.prod(0)) / point)
    moved = variables + _FURTHEST * _length(variables, step) * step
    # Rounding can leave a Hessian that is not positive definite.
    return torch.where(failed[..., None] > 0, variables, moved)


def _length(variables: Tensor, step: Tensor) -> Tensor:
    """Share of a step to where the first variable becomes zero, one at most, ``[..., 1]``."""
    fastest = (step / variables).amin(0).amin(-1, keepdim=True)
    return -1 / fastest.clamp(max=-1.0)


def _excess(point: Tensor, gradient: Tensor) -> Tensor:
    """By how much a convex objective may exceed its minimum over points of at least zero.

    Its tangent bounds it: by what the point's entries gain on the way to zero, and by what those of
    the minimiser gain along negative slopes. The sum of the minimiser's entries is taken to be that
    of the point's.
    """
    steepest = (-gradient).amax(-1).clamp(min=0.0)
    return ((point * gradient).abs().sum(-1) + point.sum(-1) * steepest).amax()
