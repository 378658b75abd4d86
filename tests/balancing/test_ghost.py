"""Layers whose gradients are never written answer as those whose gradients are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mtrl_ntk.balancing import Tape
from mtrl_ntk.balancing.factors import LinearFactor
from mtrl_ntk.balancing.ghost import Ghost

TASKS, BATCH = 3, 6


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def ghost(request: pytest.FixtureRequest) -> Ghost:
    tape, layer = Tape(), nn.Linear(4, 5, bias=request.param).double()
    tape(layer, torch.randn(TASKS, BATCH, 4, dtype=torch.float64))
    (factor,) = tape.shared
    assert isinstance(factor, LinearFactor)
    return Ghost(factor, torch.randn(TASKS, BATCH, 5, dtype=torch.float64))


def written(ghost: Ghost) -> Tensor:
    """The gradient of each row of the batch, from the layer's definition: ``[tasks, batch, n]``."""
    assert isinstance(ghost.factor, LinearFactor)
    weights = torch.einsum("tbo,tbi->tboi", ghost.output_gradients, ghost.factor.inputs)
    parts = [weights.flatten(2), ghost.output_gradients][: len(ghost.sizes)]
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("num_minibatches", [1, 2, 6])
def test_rows_and_kernels_are_those_of_the_gradients(ghost: Ghost, num_minibatches: int) -> None:
    rows = written(ghost).unflatten(1, (num_minibatches, -1)).sum(2)
    assert ghost.num_columns == rows.shape[2]
    assert_close(ghost.rows(num_minibatches), rows)
    assert_close(ghost.kernels(num_minibatches), rows @ rows.mT)


def test_a_combination_leaves_out_a_broken_task(ghost: Ghost) -> None:
    coefficients = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64)
    gradients = written(ghost).sum(1)
    expected = 2 * gradients[0] - gradients[2]
    ghost.output_gradients[1, 0] = torch.nan
    combined = torch.full_like(expected, torch.nan)
    ghost.combine(coefficients, combined)
    assert_close(combined, expected)
