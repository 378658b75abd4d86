"""SLAW."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.methods.slaw import SLAW, SLAWConfig
from tests.balancing.methods.inputs import float64, statistics


def feed(method: SLAW, steps: Tensor) -> Tensor:
    """Weights of the last of several steps ``[steps, tasks]``."""
    weights = torch.empty(0)
    for losses in steps:
        weights = method.weigh(statistics(losses))
    return weights


def published(steps: Tensor, decay: float) -> Tensor:
    """The weights of the authors' code: means of losses and squares, then moving averages."""
    warmup = round(1 / (1 - decay))
    mean, square = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for step, losses in enumerate(steps, 1):
        kept = (step - 1) / step if step <= warmup else decay
        mean = kept * mean + (1 - kept) * losses
        square = kept * square + (1 - kept) * losses.square()
    inverses = 1 / (square - mean.square()).sqrt()
    return len(mean) * inverses / inverses.sum()


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("num_steps", [2, 9, 30, 150])
def test_it_is_the_published_code(decay: float, num_steps: int) -> None:
    steps = torch.randn(num_steps, 4, dtype=torch.float64) * float64(0.1, 1.0, 10.0, 100.0)
    weights = feed(SLAW(4, SLAWConfig(slaw_decay=decay)).double(), steps)
    assert_close(weights, published(steps, decay))


def test_two_steps_by_hand() -> None:
    # After one change the deviations are proportional to it: 1 and 4.
    weights = feed(SLAW(2).double(), torch.stack([float64(0.0, 0.0), float64(-1.0, 4.0)]))
    assert_close(weights, float64(1.6, 0.4))


def test_weights_are_one_until_losses_have_moved() -> None:
    assert_close(feed(SLAW(3), torch.tensor([[1.0, 2.0, -3.0]] * 3)), torch.ones(3))


def test_shifting_losses_changes_nothing() -> None:
    steps = torch.randn(20, 3, dtype=torch.float64)
    shifted = feed(SLAW(3).double(), steps - float64(100.0, 0.0, -7.0))
    assert_close(shifted, feed(SLAW(3).double(), steps))


def test_scaling_a_loss_divides_its_share() -> None:
    steps = torch.randn(20, 2, dtype=torch.float64)
    once, scaled = feed(SLAW(2).double(), steps), feed(SLAW(2).double(), steps * float64(1.0, 5.0))
    assert_close(scaled[0] / scaled[1], 5 * once[0] / once[1])


@pytest.mark.parametrize(("scale", "offset"), [(1e-18, 0.0), (1e12, 0.0), (1.0, 1e5)])
def test_float32_keeps_its_digits(scale: float, offset: float) -> None:
    # An offset of 1e5 leaves the losses themselves two digits, their squares none.
    steps = offset + scale * torch.randn(30, 3) * torch.tensor([1.0, 3.0, 9.0])
    exact = feed(SLAW(3).double(), steps.double())
    assert_close(feed(SLAW(3), steps), exact.float(), rtol=3e-3, atol=0.0)


def test_a_broken_task_keeps_its_averages() -> None:
    method = SLAW(2).double()
    feed(method, torch.stack([float64(0.0, 0.0), float64(-1.0, 4.0)]))
    means, deviations = method.means.clone(), method.deviations.clone()
    method.weigh(statistics([50.0, 60.0], broken=[1]))
    assert (method.means != means).tolist() == [True, False]
    assert (method.deviations != deviations).tolist() == [True, False]


def test_a_task_that_starts_late_counts_as_average() -> None:
    method = SLAW(3).double()
    method.weigh(statistics([0.0, 0.0, 5.0], broken=[2]))
    weights = method.weigh(statistics([1.0, 3.0, 5.0], broken=[2]))
    inverses = 1 / float64(1.0, 3.0, 2.0)
    assert_close(weights, 3 * inverses / inverses.sum())


def test_the_floor_is_relative_to_the_mean() -> None:
    method = SLAW(2, SLAWConfig(deviation_floor=0.1)).double()
    weights = feed(method, torch.stack([float64(0.0, 0.0), float64(0.0, 4.0)]))
    assert_close(weights[0] / weights[1], torch.tensor(20.0, dtype=torch.float64))


def test_impossible_hyperparameters_are_refused() -> None:
    with pytest.raises(ValueError, match="slaw_decay is 1"):
        SLAWConfig(slaw_decay=1.0)
    with pytest.raises(ValueError, match="deviation_floor is 0"):
        SLAWConfig(deviation_floor=0.0)
