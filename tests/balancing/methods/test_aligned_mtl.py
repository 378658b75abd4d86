"""Aligned-MTL."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch.testing import assert_close
from torchjd import aggregation

from mtrl_ntk.balancing.methods.aligned_mtl import AlignedMTL, AlignedMTLConfig
from mtrl_ntk.balancing.solvers import eigen
from tests.balancing.methods.inputs import float64
from tests.balancing.solvers.gramians import hard_gramian

Scale = Literal["min", "median", "rmse"]
every_scale = pytest.mark.parametrize("scale", ["min", "median", "rmse"])


def method(num_tasks: int, scale: Scale = "min") -> AlignedMTL:
    """An instance with the given scale."""
    return AlignedMTL(num_tasks, AlignedMTLConfig(aligned_scale=scale))


@pytest.mark.parametrize(("scale", "value"), [("min", 1.0), ("median", 4.0), ("rmse", 7.0)])
def test_orthogonal_gradients_get_one_length(scale: Scale, value: float) -> None:
    weights = method(3, scale)(torch.diag(float64(16.0, 4.0, 1.0)))
    assert_close(weights, value**0.5 / float64(4.0, 2.0, 1.0))


def test_the_median_of_an_even_number_is_the_lower() -> None:
    weights = method(3, "median")(torch.diag(float64(16.0, 0.0, 4.0)))
    assert_close(weights, 2 / float64(4.0, torch.inf, 2.0))


@every_scale
def test_orthogonal_gradients_of_one_length_keep_weights_of_one(scale: Scale) -> None:
    assert_close(method(5, scale)(7 * torch.eye(5)), torch.ones(5))


def test_the_aligned_gradients_are_orthogonal_and_of_one_length() -> None:
    gramian = hard_gramian("wide", 6, 1.0)
    weights = method(6)(gramian)
    smallest = torch.linalg.eigvalsh(gramian)[0]
    # The sum of six orthogonal vectors of this squared length, and its products with each.
    assert_close(weights @ gramian @ weights, 6 * smallest)
    values, vectors = torch.linalg.eigh(gramian)
    aligned = vectors * values.sqrt() @ vectors.mT * smallest.sqrt()
    assert_close(gramian @ weights, aligned.sum(0))


@every_scale
def test_a_common_scale_changes_nothing(scale: Scale) -> None:
    gramian = hard_gramian("wide", 4)
    assert_close(method(4, scale)(1e-30 * gramian), method(4, scale)(gramian))


@every_scale
@pytest.mark.parametrize("kind", ["wide", "square", "half rank", "rank one", "pairs", "aligned"])
def test_torchjd_agrees(kind: str, scale: Scale) -> None:
    for num_tasks in (1, 2, 5, 10):
        gramian = hard_gramian(kind, num_tasks)
        equal = torch.ones(num_tasks, dtype=torch.float64)
        for preferences, given in ((equal, ()), (each := torch.rand_like(equal), (each,))):
            expected = aggregation.AlignedMTLWeighting(preferences, scale)(gramian)
            found = method(num_tasks, scale)(gramian, *given)
            assert_close(found, expected, rtol=1e-6, atol=1e-8)


@every_scale
def test_rounding_of_float32_counts_as_zero(scale: Scale) -> None:
    rows = torch.randn(4, 30, dtype=torch.float64)
    rows[3] = rows[0] + rows[1]
    expected = method(4, scale)(rows @ rows.mT)
    weights = method(4, scale)(rows.float() @ rows.float().mT)
    assert_close(weights, expected.float(), rtol=1e-3, atol=1e-3)


@every_scale
def test_a_task_without_a_gradient_gets_no_weight(scale: Scale) -> None:
    gramian = torch.zeros(3, 3, dtype=torch.float64)
    gramian[1:, 1:] = hard_gramian("wide", 2)
    weights = method(3, scale)(gramian)
    assert weights[0] == 0
    assert_close(weights[1:], method(2, scale)(gramian[1:, 1:]))


@every_scale
def test_without_any_gradient_weights_are_one(scale: Scale) -> None:
    assert_close(method(3, scale)(torch.zeros(3, 3)), torch.ones(3))


def test_the_residual_of_well_conditioned_gradients_is_rounding() -> None:
    aligned = method(6)
    aligned(hard_gramian("wide", 6))
    assert aligned.residual is not None
    assert 0 <= aligned.residual < 1e-12


@pytest.mark.parametrize("num_tasks", [10, 16, 30, 50])
@pytest.mark.parametrize("spectrum", ["graded", "random", "one small"])
def test_singular_values_down_to_a_millionth_are_aligned(num_tasks: int, spectrum: str) -> None:
    left = torch.linalg.qr(torch.randn(num_tasks, num_tasks, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(2 * num_tasks, num_tasks, dtype=torch.float64)).Q
    singular = torch.logspace(0, -6, num_tasks, dtype=torch.float64)
    if spectrum == "random":
        singular = 10 ** (-6 * torch.rand(num_tasks, dtype=torch.float64))
    elif spectrum == "one small":
        singular[:-1] = 1.0
    rows = left * singular @ right.mT
    aligned = method(num_tasks)
    step = aligned(rows @ rows.mT) @ rows
    expected = (left @ right.mT).sum(0) * singular.min()
    # A Gramian in float64 knows squared singular values of 1e-12 to four digits.
    assert (step - expected).norm() < 1e-3 * expected.norm()
    assert aligned.residual is not None
    assert aligned.residual < 1e-2


def test_the_residual_shows_a_decomposition_that_is_not_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(eigen, "_SMALL", 50)  # as many sweeps as ten tasks get
    rows = torch.linalg.qr(torch.randn(50, 50, dtype=torch.float64)).Q
    rows = rows * torch.logspace(0, -6, 50, dtype=torch.float64)
    aligned = method(50)
    aligned(rows @ rows.mT)
    assert aligned.residual is not None
    assert aligned.residual > 0.1


def test_impossible_hyperparameters_are_refused() -> None:
    with pytest.raises(ValueError, match="aligned_scale is 'max'"):
        AlignedMTLConfig(aligned_scale="max")  # type: ignore[arg-type]
