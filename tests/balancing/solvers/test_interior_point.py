"""The interior-point method."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qpsolvers import solve_qp
from scipy.optimize import nnls
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.solvers import interior_point
from mtrl_ntk.balancing.solvers.interior_point import (
    dual_cone_projections,
    hull_minimum,
    regularised,
)
from tests.balancing.methods.inputs import float64
from tests.balancing.solvers.gramians import KINDS, SPREADS, hard_gramian

PULLS = [0.0, 1 / 0.9, 10.0, 1e6]
FOUND = 1e-4
"""Largest excess over the minimum, unless a combination of the gradients vanishes but for rounding:
of that it is a share."""


def slopes(gramian: Tensor, combination: Tensor, pull: float) -> Tensor:
    """Derivatives of the hull's objective with respect to the weights, ``[tasks]``."""
    mean = gramian.mean(1) / gramian.mean().sqrt()
    return gramian @ combination + pull * mean


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_gramians_are_solved(kind: str, spread: float, dtype: torch.dtype) -> None:
    for num_tasks in (1, 2, 10):
        gramian = regularised(hard_gramian(kind, num_tasks, spread, dtype))
        for pull in PULLS:
            combination, residual = hull_minimum(gramian, pull)
            longest = gramian.diagonal().max().sqrt() * combination.sum()
            assert residual < FOUND or longest > 1e5
            assert residual.isfinite()
            assert combination.isfinite().all()
            assert (combination >= 0).all()
        combinations, residual = dual_cone_projections(gramian)
        assert residual < FOUND
        assert combinations.isfinite().all()
        assert (combinations >= torch.eye(num_tasks)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_tasks_are_solved(kind: str) -> None:
    gramian = regularised(hard_gramian(kind, 50, 1.0, torch.float32))
    assert hull_minimum(gramian).residual < FOUND
    assert hull_minimum(gramian, 1 / 0.9).residual < FOUND
    assert dual_cone_projections(gramian).residual < FOUND


def low_rank_gradients(num_tasks: int) -> Tensor:
    """Gradients in few directions but for noise, whose norms differ by a thousand."""
    columns = int(torch.randint(num_tasks // 2, 2 * num_tasks, ()))
    rows = torch.randn(num_tasks, 4, dtype=torch.float64) @ torch.randn(4, columns).double()
    rows = rows + 10 ** (-4 * torch.rand(())) * torch.randn(num_tasks, columns)
    return rows * 10 ** (3 * torch.rand(num_tasks, 1, dtype=torch.float64))


def shortest(rows: Tensor) -> tuple[float, float]:
    """Length of the hull's shortest point, by non-negative least squares and as it is found."""
    norms = rows.norm(dim=1)
    lengths = norms.min() / norms
    columns = torch.cat([rows / norms[:, None], lengths[:, None]], dim=1).mT
    shares = torch.as_tensor(nnls(columns.numpy(), np.eye(len(columns))[-1])[0]) * lengths
    combination = hull_minimum(regularised(rows @ rows.mT)).combination
    lengths = [float((w @ rows).norm() / w.sum()) for w in (shares / norms.min(), combination)]
    return lengths[0], lengths[1]


@pytest.mark.parametrize("num_tasks", [20, 50])
def test_many_tasks_in_few_directions_are_solved(num_tasks: int) -> None:
    for _ in range(30):
        rows = low_rank_gradients(num_tasks)
        expected, found = shortest(rows)
        # Below, rounding of the squared norms is as large.
        if expected > 1e-5 * rows.norm(dim=1).min():
            assert found < 1.001 * expected


def test_a_residual_below_one_hundredth_is_a_step_of_the_right_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = [low_rank_gradients(50) for _ in range(20)]
    minima = [shortest(rows) for rows in exact]
    seen = []
    for iterations in (12, 16, 20):
        monkeypatch.setattr(interior_point, "_ITERATIONS_OF_MANY", iterations)
        for rows, (expected, _) in zip(exact, minima, strict=True):
            if expected <= 1e-5 * rows.norm(dim=1).min():
                continue
            combination, residual = hull_minimum(regularised(rows @ rows.mT))
            length = float((combination @ rows).norm() / combination.sum())
            assert residual > 1e-2 or length < 1.01 * expected
            seen.append(length > 1.5 * expected)
    assert any(seen)
    assert not all(seen)


@pytest.mark.parametrize("pull", PULLS)
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_no_vertex_is_better_than_the_minimum(pull: float, spread: float) -> None:
    gramian = hard_gramian("square", 10, spread)
    combination = hull_minimum(gramian, pull).combination
    assert_close(combination @ gramian @ combination, float64(1.0)[0])
    slope = slopes(gramian, combination, pull) / gramian.diagonal().sqrt()
    weights = combination / combination.sum()
    value = slopes(gramian, combination, pull) @ weights
    lowest = value / gramian.diagonal().sqrt()
    assert (slope > lowest - 1e-6 * (1 + pull)).all()
    used = combination * gramian.diagonal().sqrt() > 1e-3
    assert 1 <= used.sum() < 10
    assert_close(slope[used], lowest[used], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_the_hull_s_shortest_point_is_that_of_quadprog(spread: float) -> None:
    gramian = hard_gramian("square", 10, spread)
    norms = gramian.diagonal().sqrt()
    cosines = (gramian / norms[:, None] / norms).numpy()
    normal = (norms.min() / norms).numpy()
    scaled = solve_qp(
        cosines,
        np.zeros(10),
        -np.eye(10),
        np.zeros(10),
        normal[None],
        np.ones(1),
        solver="quadprog",
    )
    combination = hull_minimum(gramian).combination
    assert_close(combination / combination.sum(), torch.as_tensor(scaled * normal))


def test_projections_are_those_of_quadprog() -> None:
    gramian = hard_gramian("square", 10, 0.5)
    combinations = dual_cone_projections(gramian).combinations
    for task, combination in enumerate(combinations):
        lowest = -np.eye(10)[task]
        expected = solve_qp(gramian.numpy(), np.zeros(10), -np.eye(10), lowest, solver="quadprog")
        assert_close(combination, torch.as_tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_no_common_scale_matters(factor: float) -> None:
    gramian = hard_gramian("square", 5)
    scaled = factor * gramian
    combination = hull_minimum(gramian, 1.0).combination
    assert_close(hull_minimum(scaled, 1.0).combination, combination * factor**-0.5)
    expected = dual_cone_projections(gramian).combinations
    assert_close(dual_cone_projections(scaled).combinations, expected)


def test_a_task_without_gradient_is_left_out() -> None:
    gramian = hard_gramian("square", 4)
    larger = torch.zeros(5, 5, dtype=torch.float64)
    larger[:4, :4] = gramian
    for pull in PULLS:
        combination = hull_minimum(larger, pull).combination
        assert combination[4] == 0
        assert_close(combination[:4], hull_minimum(gramian, pull).combination)


def test_a_gramian_with_negative_squares_ends_where_steps_fail() -> None:
    impossible = torch.full((4, 4), -1.0, dtype=torch.float64).fill_diagonal_(1.0)
    combination, residual = hull_minimum(impossible, 1.0)
    assert combination.isfinite().all()
    assert_close(combination, combination[:1].expand(4))
    assert residual > 0.1
    combinations = dual_cone_projections(impossible).combinations
    assert combinations.isfinite().all()
    assert_close(combinations, combinations.mT)


def test_rounding_of_float32_is_made_up_for() -> None:
    rows = torch.randn(10, 3)
    gramian = rows @ rows.mT
    assert torch.linalg.eigvalsh(gramian.double()).min() < 0
    assert torch.linalg.eigvalsh(regularised(gramian)).min() > 0
    assert_close(regularised(gramian), gramian.double(), rtol=2e-6, atol=0)
