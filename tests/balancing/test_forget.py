"""Broken tasks' rows become zeros; nobody else's change."""

from __future__ import annotations

import math

import pytest
import torch

from mtrl_ntk.balancing.forget import forget_tasks
from tests.device import forbid_host_synchronisation


@pytest.mark.parametrize("broken", [[], [1], [0, 2], [0, 1, 2]])
def test_only_broken_tasks_become_zeros(broken: list[int]) -> None:
    rows = torch.randn(3, 2, 5)
    mask = torch.zeros(3, dtype=torch.bool)
    mask[broken] = True
    expected = rows.clone()
    expected[broken] = 0.0
    rows[broken, 1, 3] = math.nan
    forget_tasks(rows, mask)
    assert torch.equal(rows, expected)


def test_the_update_does_not_wait_for_it() -> None:
    rows, broken = torch.ones(2, 3), torch.tensor([True, False])
    with forbid_host_synchronisation():
        forget_tasks(rows, broken)
    assert rows.tolist() == [[0.0] * 3, [1.0] * 3]


def test_numbers_that_are_not_there_are_no_obstacle() -> None:
    rows = torch.ones(2, 3, device="meta")
    forget_tasks(rows, torch.ones(2, dtype=torch.bool, device="meta"))
    assert rows.shape == (2, 3)
