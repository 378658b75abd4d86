"""What may be given as the tasks' losses, and how they become those of mini-batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_ntk.settings import check_kind

TaskLosses = Tensor | Sequence[Tensor]
"""Losses of the tasks: ``[tasks]``, ``[tasks, rows]``, or one tensor of either kind per task."""


def minibatch_losses(losses: TaskLosses, num_tasks: int, num_minibatches: int) -> Tensor:
    """Mean loss of every mini-batch.

    Args:
        losses: A loss per task, ``[tasks]``, or per task and row, ``[tasks, rows]``; or a sequence
            with a number or a vector for each task, whose vectors may have different lengths.
        num_tasks: Tasks that there have to be.
        num_minibatches: Equal parts into which each task's rows are split, in order.

    Returns:
        ``[tasks, num_minibatches]``.

    Raises:
        ValueError: If the losses are something else, or the rows cannot be split evenly.
    """
    check_kind("losses", losses, (Tensor, list, tuple), "a tensor, or a list of one for each task")
    for loss in [losses] if isinstance(losses, Tensor) else losses:
        check_kind("a loss", loss, Tensor, "a tensor")
        if not loss.is_floating_point():
            raise ValueError(f"a loss is of {loss.dtype}; losses must be real numbers")
    if isinstance(losses, Tensor):
        if losses.ndim not in (1, 2) or len(losses) != num_tasks:
            raise _unfit(tuple(losses.shape), num_tasks)
        return _means(losses[:, None] if losses.ndim == 1 else losses, num_minibatches)
    shapes = [tuple(loss.shape) for loss in losses]
    if len(shapes) != num_tasks or any(len(shape) > 1 for shape in shapes):
        raise _unfit(shapes, num_tasks)
    return torch.cat([_means(loss.reshape(1, -1), num_minibatches) for loss in losses])


def _means(losses: Tensor, num_minibatches: int) -> Tensor:
    num_rows = losses.shape[1]
    if num_rows == 0 or num_rows % num_minibatches:
        raise ValueError(
            f"{num_rows} rows per task cannot be split into {num_minibatches} equal mini-batches, "
            f"of which the method wants {num_minibatches}"
        )
    return losses.reshape(-1, num_minibatches, num_rows // num_minibatches).mean(2)


def _unfit(shape: object, num_tasks: int) -> ValueError:
    return ValueError(
        f"losses of shape {shape} are not those of {num_tasks} tasks, for which the method was "
        f"made: pass one per task, [{num_tasks}], or one per task and row, [{num_tasks}, rows], "
        "with the task as the first axis and nothing behind the rows"
    )
