"""GO4Align and its groups."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.methods.go4align import GO4Align, GO4AlignConfig, group_means
from tests.balancing.methods.inputs import float64


def make(num_tasks: int, groups: int, step_size: float = 0.0) -> GO4Align:
    config = GO4AlignConfig(go4align_groups=groups, go4align_step_size=step_size)
    return GO4Align(num_tasks, config).double()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(1, [1.4, 1.4, 1.4]), (2, [1.85, 1.85, 0.5]), (3, [2.0, 1.7, 0.5]), (9, [2.0, 1.7, 0.5])],
)
def test_by_hand(groups: int, expected: list[float]) -> None:
    # With shares of 1/3 and losses that sum to 6 L_0, the indicators are (2, 1.7, 0.5).
    losses = 1 / float64(2.0, 1.7, 0.5)
    weights = make(3, groups)(losses) / (losses.sum() / 3)
    assert_close(weights, float64(*expected))


def test_equal_losses_have_weights_of_one() -> None:
    assert_close(make(4, 2, step_size=0.1)(torch.full((4,), 7.0)), torch.ones(4))


def test_shares_follow_all_losses_seen() -> None:
    method = make(2, groups=2, step_size=0.1)
    for losses in ([1.0, 3.0], [2.0, 5.0]):
        weights = method(float64(*losses))
    shares = (-0.1 * float64(3.0, 8.0)).softmax(0)
    assert_close(method.log_shares.exp(), shares)
    assert_close(weights, shares * 7.0 / float64(2.0, 5.0))


def test_no_task_is_lost_for_ever() -> None:
    method = make(2, groups=2, step_size=1.0)
    for _ in range(10):
        method(float64(1e-3, 1e9))
    assert_close(method.log_shares[1], torch.tensor(math.log(1e-6), dtype=torch.float64))
    for _ in range(20):
        method(float64(2.0, 1.0))
    assert method.log_shares[1] > method.log_shares[0]


def test_vanished_losses_give_finite_weights() -> None:
    method = GO4Align(3)
    assert_close(method(torch.zeros(3)), torch.ones(3))
    assert method(torch.tensor([0.0, 1.0, 1e12])).isfinite().all()


def total(values: Tensor, means: Tensor) -> Tensor:
    """Sum of squared distances to the groups' means."""
    return (values - means).square().sum()


def best_means(values: Tensor, num_groups: int) -> Tensor:
    """The means of the best grouping, by trying all intervals of the ordered values."""
    ordered, order = values.sort()
    found = [
        torch.cat([part.mean().expand(len(part)) for part in torch.tensor_split(ordered, cuts)])
        for cuts in combinations(range(1, len(values)), num_groups - 1)
    ]
    return min(found, key=lambda means: float(total(ordered, means)))[order.argsort()]


@pytest.mark.parametrize("num_groups", [1, 2, 3, 4])
@pytest.mark.parametrize("num_tasks", [4, 5, 10, 16])
def test_groups_are_the_best_of_all(num_tasks: int, num_groups: int) -> None:
    for spread in (0.1, 1.0, 3.0):
        for _ in range(5):
            values = (spread * torch.randn(num_tasks, dtype=torch.float64)).exp()
            expected = best_means(values, num_groups)
            assert_close(group_means(values, num_groups), expected, rtol=1e-12, atol=0)


def test_a_start_at_quantiles_would_end_in_a_worse_grouping() -> None:
    values = float64(0.256, 30.2, 52.0, 2.97, 1.41)
    small = (0.256 + 1.41 + 2.97) / 3
    assert_close(group_means(values, 3), float64(small, 30.2, 52.0, small, small))


@pytest.mark.parametrize("scale", [1e-12, 1e10])
def test_groups_keep_the_digits_of_small_values_beside_large_ones(scale: float) -> None:
    values = float64(1.0, 1.5, 2.0, 10.0, 10.5, 1e9)
    assert_close(group_means(scale * values, 3), scale * best_means(values, 3), rtol=1e-12, atol=0)


def test_groups_do_not_see_the_order_of_the_tasks() -> None:
    values = torch.rand(50, dtype=torch.float64)
    order = torch.randperm(50)
    assert torch.equal(group_means(values[order], 4), group_means(values, 4)[order])


def test_equal_values_are_of_one_group() -> None:
    values = float64(2.0, 1.0, 2.0, 1.0, 1.0, 5.0)
    assert_close(group_means(values, 3), values)
    assert_close(group_means(values, 5), values)


@pytest.mark.parametrize("num_tasks", [1, 2, 3])
def test_fewer_tasks_than_groups_are_groups_of_their_own(num_tasks: int) -> None:
    values = torch.rand(num_tasks, dtype=torch.float64)
    assert_close(group_means(values, 3), values)


def test_impossible_hyperparameters_are_refused() -> None:
    with pytest.raises(ValueError, match="go4align_groups is 0"):
        GO4AlignConfig(go4align_groups=0)
    with pytest.raises(ValueError, match="go4align_step_size is -1"):
        GO4AlignConfig(go4align_step_size=-1.0)
    with pytest.raises(ValueError, match="go4align_share_floor is 0"):
        GO4AlignConfig(go4align_share_floor=0.0)
    with pytest.raises(ValueError, match="loss_floor is 0"):
        GO4AlignConfig(loss_floor=0.0)
