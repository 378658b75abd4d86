"""Numbers that change with the updates."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler
from torch.testing import assert_close

from mtrl_ntk.rl.adam import Adam
from mtrl_ntk.rl.schedules import SHAPES, Schedule, at

UPDATES = 5


def torch_schedule(shape: str, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """What torch has of the kind, from 0.1 to 0.02."""
    if shape == "linear":
        return LinearLR(optimizer, 1.0, 0.2, total_iters=UPDATES)
    return CosineAnnealingLR(optimizer, UPDATES, eta_min=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_learning_rates_are_those_of_torch(shape: str) -> None:
    ours, theirs = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    reference = torch.optim.Adam([theirs], lr=0.1)
    scheduler = torch_schedule(shape, reference)
    schedule = Schedule(0.1, 0.02, UPDATES, shape)
    optimizer = Adam([ours], schedule)
    for _ in range(UPDATES):
        assert_close(at(schedule, optimizer.num_steps), torch.tensor(scheduler.get_last_lr()[0]))
        ours.grad, theirs.grad = 2 * ours.detach(), 2 * theirs.detach()
        optimizer.step()
        reference.step()
        scheduler.step()
        # The rate is a number of single precision, as the fused kernel of CUDA wants it.
        assert_close(ours, theirs, rtol=1e-7, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_end_is_kept(shape: str) -> None:
    schedule = Schedule(-4.0, 0.5, UPDATES, shape)
    for updates in (UPDATES, UPDATES + 1, 10**7):
        assert_close(at(schedule, torch.tensor(float(updates))), torch.tensor(0.5))
    assert_close(at(schedule, torch.tensor(0.0)), torch.tensor(-4.0))


def test_a_number_that_never_changes_is_no_tensor() -> None:
    assert at(0.25, torch.tensor(3.0)) == 0.25
    assert not isinstance(at(0.25, torch.tensor(3.0)), torch.Tensor)


def test_a_schedule_needs_updates() -> None:
    with pytest.raises(ValueError, match="num_updates is 0"):
        Schedule(1.0, 0.0, 0)


def test_a_step_that_is_none_leaves_the_rate() -> None:
    parameter = torch.ones(3, requires_grad=True)
    parameter.grad = torch.ones(3)
    optimizer = Adam([parameter], Schedule(0.1, 0.02, UPDATES))
    optimizer.found_inf.fill_(1)
    optimizer.step()
    assert optimizer.num_steps == 0
    assert (parameter == 1).all()
