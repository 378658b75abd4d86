"""PCGrad."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchjd import aggregation

from mtrl_ntk.balancing.methods.pcgrad import PCGrad
from tests.balancing.methods.inputs import float64, statistics


def weights_of(rows: Tensor, noise: Tensor | None = None) -> Tensor:
    """The method's weights for gradients ``[tasks, parameters]``."""
    if noise is None:
        noise = torch.randn(len(rows), len(rows))
    return PCGrad(len(rows)).forward(rows @ rows.mT, noise)


def direction(rows: Tensor, noise: Tensor, preferences: Tensor | None = None) -> Tensor:
    """The mean of the projected gradients, by Algorithm 1 on the gradients themselves."""
    projected = rows.clone()
    for task, order in enumerate(noise.argsort(1)):
        for other in order:
            product = projected[task] @ rows[other]
            if other != task and product < 0:
                projected[task] -= product / rows[other].square().sum() * rows[other]
    return projected.mean(0) if preferences is None else preferences @ projected / len(rows)


def noise_of(orders: tuple[tuple[int, ...], ...]) -> Tensor:
    """Noise that puts the others in the given order for each task."""
    return torch.tensor(orders).argsort(1).double()


def test_two_tasks_by_hand() -> None:
    rows = torch.stack([float64(1.0, 0.0), float64(-1.0, 1.0)])
    # The first becomes g_1 + g_2 / 2, the second g_2 + g_1.
    assert_close(weights_of(rows), float64(2.0, 1.5))


def test_gradients_without_conflict_keep_weights_of_one() -> None:
    rows = torch.rand(5, 8, dtype=torch.float64)
    assert_close(weights_of(rows), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 6, 10])
def test_the_step_is_that_of_the_algorithm(num_tasks: int) -> None:
    for _ in range(3):
        rows = torch.randn(num_tasks, 4, dtype=torch.float64)
        noise = torch.randn(num_tasks, num_tasks)
        assert_close(weights_of(rows, noise) @ rows / num_tasks, direction(rows, noise))
        preferences = torch.rand(num_tasks, dtype=torch.float64)
        weights = PCGrad(num_tasks).forward(rows @ rows.mT, noise, preferences)
        assert_close(weights @ rows / num_tasks, direction(rows, noise, preferences))


def test_every_task_has_an_order_of_its_own() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [-1.0, -1.0]], dtype=torch.float64)
    results = [
        weights_of(rows, noise_of(((0, *first), (1, 0, 2), (2, *third))))
        for first in ((1, 2), (2, 1))
        for third in ((0, 1), (1, 0))
    ]
    for one, other in ((0, 1), (0, 2), (1, 3), (2, 3)):
        assert not torch.allclose(results[one], results[other])


def test_the_own_entry_of_the_noise_does_not_matter() -> None:
    rows, noise = torch.randn(5, 3), torch.randn(5, 5)
    expected = weights_of(rows, noise)
    assert_close(weights_of(rows, noise - 10 * torch.eye(5)), expected)


def test_torchjd_agrees_for_two_tasks() -> None:
    for _ in range(10):
        rows = torch.randn(2, 3, dtype=torch.float64)
        assert_close(weights_of(rows), aggregation.PCGradWeighting()(rows @ rows.mT))


def test_torchjd_agrees_in_expectation() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [-0.5, -1.0]], dtype=torch.float64)
    every_order = [
        [(task, *rest) for rest in permutations({0, 1, 2} - {task})] for task in range(3)
    ]
    ours = torch.stack([weights_of(rows, noise_of(orders)) for orders in product(*every_order)])
    theirs = torch.stack([aggregation.PCGradWeighting()(rows @ rows.mT) for _ in range(2000)])
    assert ours.std(0).max() > 0.1
    # Four standard errors of the mean of two thousand.
    error = 4 * float(ours.std(0).max()) / 2000**0.5
    assert_close(ours.mean(0), theirs.mean(0), rtol=0, atol=error)


def test_the_scale_of_a_task_only_scales_its_gradient() -> None:
    rows, noise = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 4)
    for scale in (1e-8, 1e8):
        scaled = rows.clone()
        scaled[1] *= scale
        assert_close(weights_of(scaled, noise) @ scaled / 4, direction(scaled, noise))


def test_a_task_without_a_gradient_conflicts_with_none() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    assert_close(weights_of(rows), float64(2.0, 1.0, 1.5))
    assert_close(weights_of(0 * rows), torch.ones(3, dtype=torch.float64))


def test_the_noise_of_the_statistics_gives_the_orders() -> None:
    method = PCGrad(4)
    assert method.noise_shape == (4, 4)
    rows, noise = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 4)
    shown = statistics(torch.ones(4), gradients=rows, noise=noise)
    assert_close(method.weigh(shown), weights_of(rows, noise))
