"""What may be given as losses."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mtrl_ntk.balancing.losses import minibatch_losses


@pytest.mark.parametrize("num_minibatches", [1, 2, 3, 6])
def test_minibatches_are_means_of_equal_parts(num_minibatches: int) -> None:
    losses = torch.rand(2, 6)
    expected = torch.stack([part.mean(1) for part in losses.chunk(num_minibatches, 1)], 1)
    assert_close(minibatch_losses(losses, 2, num_minibatches), expected)
    assert_close(minibatch_losses(list(losses), 2, num_minibatches), expected)
    assert_close(minibatch_losses(losses.T.contiguous().T, 2, num_minibatches), expected)


def test_tasks_may_have_unlike_numbers_of_rows() -> None:
    found = minibatch_losses([torch.tensor(3.0), torch.tensor([1.0, 2.0])], 2, 1)
    assert found.tolist() == [[3.0], [1.5]]


@pytest.mark.parametrize("shape", [(2,), (2, 4)])
def test_a_task_may_have_one_loss_or_one_per_row(shape: tuple[int, ...]) -> None:
    losses = torch.rand(shape)
    assert_close(minibatch_losses(losses, 2, 1), losses.view(2, -1).mean(1, keepdim=True))


@pytest.mark.parametrize("shape", [(), (3,), (4, 2), (2, 4, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one per task, \[2\], or one per task and row"):
        minibatch_losses(torch.zeros(shape), 2, 1)


def test_other_sequences_are_refused() -> None:
    for losses in ([torch.zeros(())], [torch.zeros(2, 1), torch.zeros(2, 1)]):
        with pytest.raises(ValueError, match="for which the method was made"):
            minibatch_losses(losses, 2, 1)


def test_rows_that_cannot_be_split_are_refused() -> None:
    with pytest.raises(ValueError, match="1 rows per task cannot be split into 4"):
        minibatch_losses(torch.zeros(2), 2, 4)
    with pytest.raises(ValueError, match="0 rows per task"):
        minibatch_losses(torch.zeros(2, 0), 2, 1)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ({"a": torch.ones(())}, "losses is a dict; it must be a tensor, or a list of one"),
        ((torch.ones(()) for _ in range(2)), "losses is a generator; it must be a tensor"),
        (None, "losses is a NoneType"),
        ([1.0, 2.0], "a loss is a float; it must be a tensor"),
        (torch.ones(2, dtype=torch.int64), "a loss is of torch.int64; losses must be real numbers"),
        (torch.ones(2, dtype=torch.complex64), "a loss is of torch.complex64"),
    ],
)
def test_what_are_no_losses_is_refused(losses: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        minibatch_losses(losses, 2, 1)  # type: ignore[arg-type]
