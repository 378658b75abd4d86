"""UPGrad."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from torchjd import aggregation, linalg

from mtrl_ntk.balancing.methods.upgrad import UPGrad
from tests.balancing.methods.inputs import float64
from tests.balancing.solvers.gramians import hard_gramian


def test_without_conflicts_weights_are_one() -> None:
    weights = UPGrad(5)(hard_gramian("aligned", 5, 2.0))
    assert_close(weights, torch.ones(5, dtype=torch.float64))


def test_two_conflicting_gradients_are_projected_off_each_other() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 2.0]], dtype=torch.float64)
    # g_1 - (g_1 g_2 / |g_2|^2) g_2 and g_2 - (g_1 g_2 / |g_1|^2) g_1, with g_1 g_2 = -1.
    weights = UPGrad(2)(rows @ rows.mT)
    assert_close(weights, float64(1 + 1 / 1, 1 + 1 / 5))


@pytest.mark.parametrize("kind", ["square", "half rank", "nearly opposite pairs"])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_no_task_conflicts_with_the_step(kind: str, spread: float) -> None:
    gramian = hard_gramian(kind, 10, spread)
    norms = gramian.diagonal().sqrt()
    assert (gramian @ torch.ones(10, dtype=torch.float64) < 0).any()
    method = UPGrad(10)
    weights = method(gramian)
    assert (weights >= 1).all()
    assert (gramian @ weights / norms > -1e-5 * norms.max()).all()
    assert method.residual is not None
    assert method.residual < 1e-6


def test_scaling_a_task_changes_the_step_in_proportion() -> None:
    gramian = hard_gramian("square", 3)
    steps = []
    for scale in (1.0, 2.0, 3.0):
        scales = float64(1.0, scale, 1.0)
        # The weights of the gradients as they were.
        steps.append(UPGrad(3)(gramian * scales[:, None] * scales) * scales)
    assert_close(steps[2] - steps[1], steps[1] - steps[0])
    assert not torch.allclose(steps[1], steps[0])


@pytest.mark.parametrize("factor", [1e-20, 1e20])
def test_no_common_scale_matters(factor: float) -> None:
    gramian = hard_gramian("square", 5, 1.0)
    assert_close(UPGrad(5)(factor * gramian), UPGrad(5)(gramian))


@pytest.mark.parametrize("num_tasks", [2, 4, 8])
@pytest.mark.parametrize("kind", ["wide", "square"])
def test_torchjd_agrees(num_tasks: int, kind: str) -> None:
    gramian = hard_gramian(kind, num_tasks, 0.5)
    # Its default adds 1e-4 of the trace, which shows.
    projector = linalg.QuadprogProjector(norm_eps=0.0, reg_eps=1e-15)
    expected = num_tasks * aggregation.UPGradWeighting(projector=projector)(gramian)
    assert_close(UPGrad(num_tasks)(gramian), expected, rtol=1e-6, atol=1e-6)
    preferences = torch.rand(num_tasks, dtype=torch.float64) + 0.1
    expected = aggregation.UPGradWeighting(preferences, projector)(gramian)
    assert_close(UPGrad(num_tasks)(gramian, preferences), expected, rtol=1e-6, atol=1e-6)


def test_a_task_without_gradient_keeps_a_weight_of_one() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    assert_close(UPGrad(3)(rows @ rows.mT), float64(2.0, 1.2, 1.0))


def test_without_any_gradient_weights_are_one() -> None:
    assert_close(UPGrad(3)(torch.zeros(3, 3)), torch.ones(3))
