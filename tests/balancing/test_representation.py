"""Kernels and combinations of gradients in a representation, by which rows they depend on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.representation import Representation, Rows

TASKS, PARTS, SIZE, FEATURES = 3, 2, 4, 5


def in_all_rows(gradients: Tensor, rows: Rows) -> Tensor:
    """The same gradients ``[tasks, mini-batches, all rows, features]``, with zeros elsewhere."""
    if rows == "all":
        return gradients
    num_rows = PARTS * SIZE * (TASKS if rows == "of_task_and_minibatch" else 1)
    everywhere = torch.zeros(TASKS, PARTS, num_rows, FEATURES)
    for task in range(TASKS):
        for part in range(PARTS):
            first = task * PARTS * SIZE * (rows == "of_task_and_minibatch") + part * SIZE
            everywhere[task, part, first : first + SIZE] = gradients[task, part]
    return everywhere


@pytest.mark.parametrize("rows", ["all", "of_minibatch", "of_task_and_minibatch"])
def test_rows_that_are_left_out_are_zeros(rows: Rows) -> None:
    gradients = torch.randn(TASKS, PARTS, SIZE, FEATURES)
    whole, coefficients = in_all_rows(gradients, rows), torch.randn(TASKS, PARTS)
    found = Representation(gradients.clone(), rows)
    assert_close(found.combine(coefficients), torch.einsum("tn,tnrf->rf", coefficients, whole))
    flat, summed = whole.flatten(2), whole.sum(2)
    assert_close(found.kernels(across_rows=False), flat @ flat.mT)
    assert_close(found.kernels(across_rows=True), summed @ summed.mT)


def test_broken_tasks_are_forgotten() -> None:
    gradients = torch.ones(TASKS, PARTS, SIZE, FEATURES)
    gradients[1, 0, 0, 0] = torch.inf
    found = Representation(gradients, "all")
    assert found.finite.tolist() == [True, False, True]
    assert not found.kernels(across_rows=True)[1].any()
    assert found.combine(torch.ones(TASKS, PARTS)).isfinite().all()
