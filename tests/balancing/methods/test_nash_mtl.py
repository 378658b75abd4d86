"""Nash-MTL."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close
from torchjd import aggregation

from mtrl_ntk.balancing.methods.nash_mtl import NashMTL, NashMTLConfig
from tests.balancing.methods.inputs import float64
from tests.balancing.solvers.gramians import hard_gramian


def test_orthogonal_gradients_are_made_unit_vectors() -> None:
    weights = NashMTL(2)(torch.diag(float64(4.0, 0.25)))
    assert_close(weights, float64(1.0, 4.0), rtol=1e-5, atol=0)


def test_weights_solve_the_bargaining_problem() -> None:
    gramian = hard_gramian("wide", 10, 1.0)
    method = NashMTL(10, NashMTLConfig(gramian_ridge=1e-12))
    shares = method(gramian) / 10
    assert_close(gramian @ shares, 1 / shares)
    assert method.residual is not None
    assert method.residual < 1e-10


def test_no_other_direction_has_a_larger_product_of_gains() -> None:
    gramian = hard_gramian("square", 4, 1.0)
    shares = NashMTL(4, NashMTLConfig(gramian_ridge=1e-12))(gramian)

    def product(candidate: torch.Tensor) -> torch.Tensor:
        length = (candidate @ gramian @ candidate).sqrt()
        return (gramian @ candidate / length).log().sum()

    for _ in range(20):
        assert product(shares) > product(shares * (1 + 0.01 * torch.randn_like(shares)))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_step_has_the_length_of_the_root_of_the_tasks(scale: float) -> None:
    gramian = scale * hard_gramian("wide", 5, 1.0)
    weights = NashMTL(5)(gramian)
    assert_close(weights @ gramian @ weights / 25, torch.tensor(5.0).double(), rtol=1e-4, atol=0)


def test_the_scale_of_a_task_changes_its_own_weight_alone() -> None:
    gramian = hard_gramian("wide", 3)
    scales = float64(1.0, 1e3, 1e-2)
    weights = NashMTL(3)(gramian)
    assert_close(NashMTL(3)(gramian * scales * scales[:, None]), weights / scales)


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")
def test_torchjd_agrees() -> None:
    for num_tasks in (2, 3, 6):
        rows = torch.randn(num_tasks, 12, dtype=torch.float64)
        expected = num_tasks * aggregation.NashMTL(num_tasks, max_norm=0.0).weighting(rows)
        method = NashMTL(num_tasks, NashMTLConfig(gramian_ridge=1e-12))
        assert_close(method(rows @ rows.mT), expected, rtol=1e-5, atol=0)


def test_weights_are_reused_between_solutions() -> None:
    method = NashMTL(3, NashMTLConfig(nash_solve_every=3)).double()
    gramians = [hard_gramian("wide", 3) for _ in range(7)]
    weights = [method(gramian) for gramian in gramians]
    for call, solved in enumerate([0, 0, 0, 3, 3, 3, 6]):
        assert_close(weights[call], NashMTL(3)(gramians[solved]))
    assert not torch.allclose(weights[0], weights[3])


def test_the_residual_of_reused_weights_is_theirs() -> None:
    method = NashMTL(2, NashMTLConfig(nash_solve_every=2, gramian_ridge=1e-12)).double()
    method(torch.diag(float64(4.0, 1.0)))
    assert method.residual is not None
    assert method.residual < 1e-9
    # G a^2 with a of (1/2, 1).
    method(torch.diag(float64(4.0, 9.0)))
    assert_close(method.residual, float64(8.0)[0])
    method(torch.diag(float64(4.0, 9.0)))
    assert method.residual < 1e-9


def test_a_task_without_a_gradient_is_not_solved_for_later_steps() -> None:
    method = NashMTL(2, NashMTLConfig(nash_solve_every=2)).double()
    method(torch.diag(float64(4.0, 1.0)))
    method(torch.diag(float64(4.0, 1.0)))
    assert method(torch.diag(float64(16.0, 0.0)))[1] > 1e3
    assert_close(method(torch.diag(float64(4.0, 1.0))), float64(0.5, 2.0), rtol=1e-4, atol=0)


def test_without_any_gradient_weights_are_one() -> None:
    assert_close(NashMTL(3)(torch.zeros(3, 3)), torch.ones(3))


def test_duplicates_share_a_weight() -> None:
    gramian = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    expected = 3 * torch.tensor([0.5**0.5, 0.5**0.5, 1.0])
    assert_close(NashMTL(3)(gramian), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nash_solve_every": 0}, "nash_solve_every is 0"),
        ({"gramian_ridge": 0.0}, "gramian_ridge is 0.0"),
    ],
)
def test_impossible_hyperparameters_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NashMTLConfig(**values)
