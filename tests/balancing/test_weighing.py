"""The formula that all balancers share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighing import eigenvalues_of, minimum_cosine, weigh
from mtrl_ntk.balancing.weighting import LossWeighting


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
