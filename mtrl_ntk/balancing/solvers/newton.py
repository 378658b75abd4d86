"""Fair compromises between gradients: convex problems without constraints, by Newton's method."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mtrl_ntk.balancing.solvers.scaling import unit_gramian

_NORM_FLOOR = 1e-5
_NO_FLOOR = 1e-150  # its square is not zero
_FURTHEST = 0.95  # share of the way to where the first entry would become zero


class FairSolution(NamedTuple):
    """A solution of ``G a = a ** -power``."""

    values: Tensor
    """The positive vector a, float64 ``[tasks]``."""
    residual: Tensor
    """Largest relative error of the equations, as :func:`fair_residual` has it."""


def solve_fair(gramian: Tensor, power: float, ridge: float, iterations: int) -> FairSolution:
    r"""Solves :math:`G a = a^{-p}` for positive :math:`a`, entry by entry on the right-hand side.

    The solution is the minimum of the strictly convex

    .. math:: \tfrac12 a^\top G a - \sum_i \phi(a_i), \qquad \phi'(a) = a^{-p},

    with the logarithm as :math:`\phi` for :math:`p = 1`, the Nash bargaining of
    arXiv 2202.01017, and a power for the alpha-fairness of arXiv 2402.15638,
    :math:`p = 1/\alpha`. In place of :math:`a_i` the solver looks for :math:`z_i = a_i n_i`, with
    :math:`n_i` the norms of the gradients, so that G's place is taken by their cosines R:

    .. math:: R z = n^{p-1} z^{-p}.

    For :math:`p = 1` the norms are gone; else they only stand on the right. Orthogonal gradients
    are solved by the start, and whatever the scales, the Hessian's condition is that of R plus a
    positive diagonal.

    Each step goes along Newton's direction to the best of 41 lengths, from a thousandth to a
    thousand times Newton's own and short of the boundary, found by evaluating the objective at all
    of them at once. The objective never rises, and a direction that is not finite leaves the point
    where it is. The damping of self-concordant functions, one over one plus the decrement, is safe
    for the logarithm only, and took up to five times as many steps where gradients oppose each
    other and a grows large.

    Args:
        gramian: Inner products of the tasks' gradients, ``[tasks, tasks]``.
        power: The power p, above zero.
        ridge: Share of each squared norm that is added to it. Gradients of which a positive
            combination vanishes have no finite solution without it; with it, z stays below
            ``sqrt(tasks / ridge)`` for p = 1.
        iterations: Newton steps, all of which are taken. To an error of 1e-6, the hard Gramians of
            the tests needed up to 15 for p = 1 and 21 for p = 1/2, most of them less than ten;
            fifty dependent gradients whose norms differ by a million needed up to 29. Powers
            farther from one can need more.

    Returns:
        The solution of the equations with the ridge, and with norms floored at 1e-5 of their root
        mean square.
    """
    cosines, norms, root_mean_square = unit_gramian(gramian, _NORM_FLOOR)
    identity = torch.eye(len(norms), device=norms.device, dtype=norms.dtype)
    problem = _Problem(cosines + ridge * identity, norms ** (power - 1), power)
    lengths = _step_lengths(norms)
    point = problem.start()
    for _ in range(iterations):
        direction = problem.direction(point)
        shrinkage = (-direction / point).max().clamp(min=_FURTHEST / lengths[-1])
        allowed = lengths.clamp(max=_FURTHEST / shrinkage)
        gains = problem.gains(point, direction, allowed)
        # Indexing with a tensor without axes would wait for the device.
        point = point + allowed.index_select(0, gains.argmax()[None]) * direction
    values = point / norms * root_mean_square ** (-2 / (1 + power))
    return FairSolution(values, fair_residual(gramian, values, power, ridge))


def fair_residual(gramian: Tensor, values: Tensor, power: float, ridge: float) -> Tensor:
    """Largest relative error of ``G a = a ** -power`` with the ridge, a scalar.

    There is no floor in it: for a gradient below the solver's it is about one. A task without a
    gradient has no equation.

    Args:
        gramian: Inner products of the tasks' gradients, ``[tasks, tasks]``.
        values: The vector a of positive numbers, ``[tasks]``, of this Gramian or another.
        power: The power p.
        ridge: Share of each squared norm that is added to it.
    """
    cosines, norms, root_mean_square = unit_gramian(gramian, _NO_FLOOR)
    # With a = z / n and all norms in units of their root mean square, as it is solved.
    point = values.double() * norms * root_mean_square ** (2 / (1 + power))
    pull = cosines @ point + ridge * point
    errors = (pull * point**power * norms ** (1 - power) - 1).abs()
    return errors.masked_fill(gramian.diagonal() <= 0, 0.0).max()


def _step_lengths(like: Tensor) -> Tensor:
    """Zero, and powers of the square root of two from 2^-10 to 2^10, one among them."""
    lengths = torch.exp2(torch.arange(-20, 21, device=like.device, dtype=like.dtype) / 2)
    return torch.cat([lengths.new_zeros(1), lengths])


class _Problem(NamedTuple):
    """Minimise ``z matrix z / 2 - sum(right * phi(z))`` for positive z, the point."""

    matrix: Tensor
    right: Tensor
    power: float

    def start(self) -> Tensor:
        """The solution for orthogonal gradients, times the number that makes the most of it."""
        point = self.right ** (1 / (1 + self.power))
        # Rounding can leave a matrix without rank no curvature, or a negative one.
        curvature = (point @ self.matrix @ point).clamp(min=1e-6 * point.square().sum())
        multiple: Tensor = (self.right * point ** (1 - self.power)).sum() / curvature
        return point * multiple ** (1 / (1 + self.power))

    def pull(self, point: Tensor) -> Tensor:
        """The gradient of the quadratic part, which is to equal the push."""
        return self.matrix @ point

    def push(self, point: Tensor) -> Tensor:
        """The gradient of the sum."""
        return self.right * point**-self.power

    def direction(self, point: Tensor) -> Tensor:
        """Newton's step; zero where the Hessian is not positive definite to rounding."""
        push = self.push(point)
        hessian = self.matrix + torch.diag_embed(self.power * push / point)
        factor = torch.linalg.cholesky_ex(hessian, check_errors=False).L
        step = torch.cholesky_solve((push - self.pull(point))[:, None], factor)
        return step[:, 0].nan_to_num(0.0, 0.0, 0.0)

    def gains(self, point: Tensor, direction: Tensor, lengths: Tensor) -> Tensor:
        """By how much steps of the given lengths lower the objective, ``[lengths]``."""
        growth = lengths[:, None] * (direction / point)
        # The exact difference of phi, which keeps the digits that a difference of values loses.
        rise = torch.log1p(growth)
        if self.power != 1:
            rise = torch.expm1((1 - self.power) * rise) / (1 - self.power)
        gained = rise @ (self.push(point) * point)
        slope, bend = self.pull(point) @ direction, direction @ self.matrix @ direction
        gains = gained - lengths * slope - lengths.square() * bend / 2
        return gains.nan_to_num(nan=-torch.inf)
