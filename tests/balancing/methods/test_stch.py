"""Smooth Tchebycheff scalarisation."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from torchjd import scalarization

from mtrl_ntk.balancing.methods.stch import STCH, STCHConfig
from tests.balancing.methods.inputs import float64, statistics


def warmed(mu: float, num_tasks: int = 2) -> STCH:
    """A method after a warm-up of two steps, with the nadir point (2, 4, ...)."""
    method = STCH(num_tasks, STCHConfig(stch_mu=mu, stch_warmup_steps=2)).double()
    nadir = 2.0 * torch.arange(1, num_tasks + 1, dtype=torch.float64)
    for factor in (0.5, 1.5):
        losses = factor * nadir
        assert_close(method.weigh(statistics(losses)), 1 / losses)
    return method


def test_by_hand() -> None:
    # L / n = (2, 1), squared by mu = 1/2: shares (4/5, 1/5).
    weights = warmed(0.5).weigh(statistics([4.0, 4.0]))
    assert_close(weights, 2 * float64(0.8, 0.2) / 4.0)


@pytest.mark.parametrize("mu", [0.1, 1.0])
def test_it_is_the_gradient_of_torchjd_on_logarithms(mu: float) -> None:
    losses = torch.rand(3, dtype=torch.float64).add(0.1).requires_grad_()
    ratios = losses / float64(2.0, 4.0, 6.0)
    # Preferences of one, as in the authors' multi-task code; torchjd's own are 1/k.
    scalarization.STCH(mu, weights=torch.ones(3, dtype=torch.float64))(ratios.log()).backward()
    assert losses.grad is not None
    assert_close(warmed(mu, 3).weigh(statistics(losses.detach())), 3 * losses.grad)


def test_the_default_warm_up_is_over_within_a_short_run() -> None:
    method, losses = STCH(2).double(), float64(1.0, 4.0)
    for _ in range(200):
        method.weigh(statistics(losses))
    moved = float64(4.0, 1.0)
    assert not torch.allclose(method.weigh(statistics(moved)), 1 / moved)


def test_a_small_mu_sees_the_worst_task_only() -> None:
    weights = warmed(1e-3).weigh(statistics([2.0, 4.4]))
    assert_close(weights, float64(0.0, 2 / 4.4))


def test_at_mu_one_the_weights_keep_their_ratios() -> None:
    method = warmed(1.0)
    for losses in ([1.0, 1.0], [100.0, 1e-3]):
        weights = method.weigh(statistics(losses))
        assert_close(weights[0] / weights[1], torch.tensor(2.0, dtype=torch.float64))


def test_a_broken_task_adds_nothing_to_its_nadir() -> None:
    method = STCH(2, STCHConfig(stch_mu=0.5, stch_warmup_steps=2)).double()
    method.weigh(statistics([2.0, 4.0]))
    method.weigh(statistics([2.0, 100.0], broken=[1]))
    assert_close(method.weigh(statistics([4.0, 4.0])), 2 * float64(0.8, 0.2) / 4.0)


def test_a_task_without_a_nadir_counts_as_standing_at_it() -> None:
    method = STCH(2, STCHConfig(stch_mu=0.5, stch_warmup_steps=1)).double()
    method.weigh(statistics([2.0, 1.0], broken=[1]))
    assert_close(method.weigh(statistics([4.0, 5.0])), 2 * float64(0.8 / 4, 0.2 / 5))


def test_vanished_losses_give_finite_weights() -> None:
    method = warmed(0.1).float()
    assert_close(method.weigh(statistics(torch.zeros(2))), torch.ones(2))
    assert method.weigh(statistics(torch.tensor([0.0, 1.0]))).isfinite().all()


def test_impossible_hyperparameters_are_refused() -> None:
    with pytest.raises(ValueError, match="stch_mu is 0"):
        STCHConfig(stch_mu=0.0)
    with pytest.raises(ValueError, match="stch_warmup_steps is 0"):
        STCHConfig(stch_warmup_steps=0)
    with pytest.raises(ValueError, match="loss_floor is 0"):
        STCHConfig(loss_floor=0.0)
