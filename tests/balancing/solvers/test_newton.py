"""Newton's method on the equations of Nash-MTL and FairGrad."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.solvers.newton import fair_residual, solve_fair
from tests.balancing.solvers.gramians import KINDS, SPREADS, hard_gramian

RIDGE = 1e-5
NASH = (1.0, 16)
FAIRGRAD = (0.5, 24)


def floored(gramian: Tensor, ridge: float = RIDGE) -> Tensor:
    """The Gramian of the equations that are solved."""
    gramian = gramian.double()
    diagonal = gramian.diagonal()
    raised = diagonal.clamp(min=1e-10 * diagonal.mean()) * (1 + ridge)
    return gramian + torch.diag(raised - diagonal)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize(("power", "iterations"), [NASH, FAIRGRAD])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_gramians_are_solved(
    kind: str, spread: float, power: float, iterations: int, dtype: torch.dtype
) -> None:
    for num_tasks in (1, 2, 3, 10):
        gramian = hard_gramian(kind, num_tasks, spread, dtype)
        values, residual = solve_fair(gramian, power, RIDGE, iterations)
        squared_norms = gramian.diagonal().double()
        if (squared_norms > 1e-9 * squared_norms.mean()).all():  # else the floor changes equations
            assert residual < 1e-8
        assert residual.isfinite()
        assert values.isfinite().all()
        assert (values > 0).all()
        # In float32, rounding makes cosines above one, which the solver corrects.
        if gramian.any() and dtype == torch.float64:
            left, right = floored(gramian) @ values, values**-power
            assert_close(left, right, rtol=1e-6, atol=0)
            assert fair_residual(floored(gramian, 0.0), values, power, RIDGE) < 1e-8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("power", "iterations"), [NASH, FAIRGRAD])
def test_fifty_tasks_are_solved(kind: str, power: float, iterations: int) -> None:
    gramian = hard_gramian(kind, 50, 1.0, torch.float32)
    assert solve_fair(gramian, power, RIDGE, iterations).residual < 1e-8


@pytest.mark.parametrize(("power", "iterations"), [NASH, FAIRGRAD])
def test_the_residual_is_that_of_the_equations_without_floor(power: float, iterations: int) -> None:
    rows = torch.randn(4, 20, dtype=torch.float64) * torch.logspace(0, 2, 4).double()[:, None]
    for shrinking, known in ((1.0, True), (1e-9, False)):
        rows[0] *= shrinking
        gramian = rows @ rows.mT
        values, residual = solve_fair(gramian, power, RIDGE, iterations)
        with_ridge = gramian + torch.diag(RIDGE * gramian.diagonal())
        errors = (with_ridge @ values * values**power - 1).abs()
        assert_close(residual, errors.max(), rtol=1e-6, atol=1e-12)
        assert (residual < 1e-8) == known


def test_a_task_without_a_gradient_has_no_equation() -> None:
    gramian = torch.zeros(4, 4, dtype=torch.float64)
    gramian[1:, 1:] = hard_gramian("wide", 3)
    assert solve_fair(gramian, 1.0, RIDGE, 16).residual < 1e-8
    assert solve_fair(torch.zeros(3, 3), 1.0, RIDGE, 16).residual == 0


@pytest.mark.parametrize("power", [0.1, 0.2, 2 / 3, 1.0, 1.5, 2.0, 10.0])
def test_powers_near_and_far_from_one_are_solved(power: float) -> None:
    gramian = hard_gramian("wide", 10, 1.0)
    values, residual = solve_fair(gramian, power, 1e-12, 32)
    assert residual < 1e-8
    assert_close(gramian @ values, values**-power, rtol=1e-6, atol=0)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_orthogonal_gradients_are_solved_by_the_start(power: float) -> None:
    gramian = torch.diag(torch.tensor([1.0, 4.0, 100.0], dtype=torch.float64))
    values, residual = solve_fair(gramian, power, 1e-15, 0)
    assert_close(values, gramian.diagonal() ** (-1 / (1 + power)))
    assert residual < 1e-12


def test_bargaining_of_two_follows_the_formula() -> None:
    # For equal norms both are 1 / sqrt(1 + cosine); a norm divides its own value alone.
    gramian = torch.tensor([[1.0, 0.6 * 3], [0.6 * 3, 9.0]], dtype=torch.float64)
    values = solve_fair(gramian, 1.0, 1e-15, 20).values
    assert_close(values, torch.tensor([1.0, 1 / 3], dtype=torch.float64) / 1.6**0.5)


def test_opposite_gradients_are_bounded_by_the_ridge() -> None:
    gramian = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    for ridge in (1e-2, 1e-6):
        values = solve_fair(gramian, 1.0, ridge, 20).values
        assert_close(values, torch.full((2,), ridge**-0.5, dtype=torch.float64))


def test_values_stay_below_the_bound_of_the_ridge() -> None:
    for kind in KINDS:
        gramian = hard_gramian(kind, 10)
        norms = floored(gramian).diagonal().sqrt()
        values = solve_fair(gramian, 1.0, RIDGE, 20).values
        if gramian.any():
            assert (values * norms <= (10 / RIDGE) ** 0.5).all()


def test_too_few_iterations_show_in_the_residual() -> None:
    gramian = hard_gramian("half rank", 10)
    few, enough = (solve_fair(gramian, 1.0, RIDGE, iterations) for iterations in (2, 20))
    assert few.residual > 1e-2
    assert not torch.allclose(few.values, enough.values, rtol=1e-2)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_common_scale_is_a_power_of_the_solution(power: float) -> None:
    gramian = hard_gramian("wide", 5)
    values = solve_fair(gramian, power, RIDGE, 20).values
    scaled = solve_fair(1e-30 * gramian, power, RIDGE, 20).values
    assert_close(scaled, values * 1e30 ** (1 / (1 + power)))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_matrices_that_are_no_gramians_keep_the_values_finite(power: float) -> None:
    for _ in range(5):
        matrix = torch.randn(10, 10)
        matrix = matrix + matrix.mT
        matrix.fill_diagonal_(1e-3)
        values, residual = solve_fair(matrix, power, RIDGE, 32)
        assert values.isfinite().all()
        assert residual.isfinite()
