"""The losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from mtrl_ntk.rl import losses


def test_td_target_by_hand() -> None:
    target = losses.td_target(
        rewards=torch.tensor([[1.0, 2.0]]),
        discounts=torch.tensor([[0.9, 0.9]]),
        next_values=torch.tensor([[8.0, 20.0]]),
        next_log_probs=torch.tensor([[2.0, -4.0]]),
        temperature=torch.tensor([0.5]),
    )
    # The entropy bonuses are -1 and +2.
    assert_close(target, torch.tensor([[7.3, 21.8]]))


def test_termination_ends_the_bootstrap() -> None:
    target = losses.td_target(
        rewards=torch.tensor([[1.0]]),
        discounts=losses.discounts(torch.tensor([[1.0]]), torch.tensor([0.0, 0.99])),
        next_values=torch.tensor([[1e6]]),
        next_log_probs=torch.tensor([[3.0]]),
        temperature=torch.tensor([1.0]),
    )
    assert_close(target, torch.tensor([[1.0]]))


def test_a_return_of_several_steps_discounts_what_follows_as_often() -> None:
    powers = torch.tensor([0.0, 0.9, 0.81, 0.729])
    found = losses.discounts(torch.tensor([[1.0, 0.0, -1.0, -2.0]]), powers)
    assert_close(found, powers[None])


def test_actor_loss_by_hand() -> None:
    values = torch.tensor([[1.0], [4.0]])
    log_probs = torch.tensor([[-3.0], [2.0]])
    loss = losses.actor_loss(values, log_probs, torch.tensor([0.5, 2.0]))
    assert_close(loss, torch.tensor([[-2.5], [0.0]]))


@pytest.mark.parametrize(("log_prob", "direction"), [(5.0, 1.0), (-5.0, -1.0)])
def test_temperature_moves_against_the_entropy_gap(log_prob: float, direction: float) -> None:
    log_alpha = torch.zeros(1, requires_grad=True)
    loss = losses.temperature_loss(log_alpha, torch.full((1, 3), log_prob), -4.0)
    (gradient,) = torch.autograd.grad(loss.sum(), log_alpha)
    # An entropy of -log_prob below the target of -4 asks for a higher temperature.
    assert math.copysign(1.0, -gradient.item()) == direction


def test_temperature_rests_at_the_target_entropy() -> None:
    log_alpha = torch.tensor([0.3, -2.0], requires_grad=True)
    loss = losses.temperature_loss(log_alpha, torch.full((2, 3), 4.0), -4.0)
    (gradient,) = torch.autograd.grad(loss.sum(), log_alpha)
    assert_close(gradient, torch.zeros(2))


def test_tasks_do_not_mix() -> None:
    shape = (3, 5)
    arguments = {
        "rewards": torch.randn(shape),
        "discounts": torch.rand(shape),
        "next_values": torch.randn(shape),
        "next_log_probs": torch.randn(shape),
        "temperature": torch.rand(3),
    }
    whole = losses.td_target(**arguments)
    for task in range(3):
        alone = {name: values[task : task + 1] for name, values in arguments.items()}
        assert_close(losses.td_target(**alone), whole[task : task + 1])
