"""The formula that all balancers share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighing import (
    as_preferences,
    eigenvalues_of,
    minimum_cosine,
    observe,
    weigh,
)
from mtrl_ntk.balancing.weighting import GramianWeighting, LossWeighting, preferred_sum


class Given(LossWeighting):
    """Weights that are the losses."""

    def forward(self, task_losses: Tensor) -> Tensor:
        """The losses."""
        return task_losses


def test_weights_and_preferences_make_the_gradient() -> None:
    rows, losses = torch.randn(3, 2, 5), torch.tensor([1.0, 2.0, 4.0])
    preferences = torch.tensor([0.5, 1.0, 1.5])
    found = weigh(Given(3), Jacobian(rows), losses, preferences=preferences)
    assert_close(found.weights, losses * preferences)
    assert_close(found.gradient, (found.weights[:, None] * rows.mean(1)).mean(0))


def test_tasks_that_are_not_finite_get_no_weight() -> None:
    rows = torch.randn(3, 1, 5)
    rows[0, 0, 0] = torch.nan
    found = weigh(Given(3), Jacobian(rows), torch.tensor([1.0, torch.inf, 4.0]))
    assert found.skipped.tolist() == [True, False, False]
    assert found.weights.tolist() == [0.0, 2.5, 4.0]


def test_eigenvalues_are_the_largest_of_each_kernel() -> None:
    jacobian = Jacobian(torch.randn(3, 1, 5))
    for method in ("ntkmtl", "equal"):
        weighting = METHODS[method](3)
        found = weigh(weighting, jacobian, torch.ones(3))
        assert_close(eigenvalues_of(weighting, found.kernels), jacobian.squared_norms())


def test_zero_gradients_are_orthogonal_to_all() -> None:
    rows = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 0.0]]])
    assert minimum_cosine(Jacobian(rows)) == 0


class Projected(GramianWeighting):
    """Weights that are preferences, which the method knows."""

    knows_preferences = True

    def forward(self, gramian: Tensor, preferences: Tensor | None = None) -> Tensor:
        """Twice the preferences."""
        return 2 * preferred_sum(torch.eye(len(gramian)), preferences)


def test_methods_that_know_preferences_are_left_alone_with_them() -> None:
    preferences = as_preferences([1, 2, 3], 3)
    found = weigh(Projected(3), Jacobian(torch.randn(3, 1, 5)), torch.ones(3), None, preferences)
    assert_close(found.weights, torch.tensor([1.0, 2.0, 3.0]))
    assert_close(
        weigh(Projected(3), Jacobian(torch.randn(3, 1, 5)), torch.ones(3)).weights,
        torch.full((3,), 2.0),
    )


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.positive_losses])
def test_a_negative_loss_that_nobody_has_looked_at_breaks_its_task_alone(method: str) -> None:
    """As on a GPU, where to look is to wait."""
    rows, losses = torch.randn(3, 1, 5), torch.rand(4, 3) + 1
    one, other = METHODS[method](3), METHODS[method](3)
    for step in range(4):
        losses[step, 1] = -5.0 if step in (1, 2) else losses[step, 1]
        expected = losses[step].masked_fill(losses[step] < 0, torch.nan)
        of_broken = rows.clone()
        of_broken[losses[step] < 0] = torch.nan
        found = weigh(one, Jacobian(rows.clone()), losses[step])
        known = weigh(other, Jacobian(of_broken), expected)
        assert found.skipped.tolist() == [False, step in (1, 2), False]
        assert_close(found.weights, known.weights)
        for fitted, after in ((one, losses[step] - 0.1), (other, expected - 0.1)):
            observe(fitted, after)
    states = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(*each) for each in states)
