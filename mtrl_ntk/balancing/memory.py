"""Tensors that lie one behind the other in memory, and can be changed as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


@torch.no_grad()
def lay_in_a_row(tensors: Sequence[Tensor]) -> None:
    """Moves tensors one behind the other; they stay the objects that they are."""
    row = torch.cat([tensor.flatten() for tensor in tensors])
    for tensor, part in zip(tensors, split_like(row, tensors), strict=True):
        tensor.data = part


def split_like(row: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a row of numbers that are as many as some tensors have, in their shapes."""
    parts = row.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def are_in_a_row(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors are, in order, the parts of one piece of memory."""
    first = tensors[0]
    memory = first.untyped_storage().data_ptr()
    begins = accumulate((tensor.numel() for tensor in tensors), initial=first.storage_offset())
    return all(
        tensor.is_contiguous()
        # Two pieces of memory may touch as well, but no tensor reaches over into the other.
        and tensor.untyped_storage().data_ptr() == memory
        and tensor.storage_offset() == begin
        for tensor, begin in zip(tensors, begins, strict=False)
    )


def as_rows(*groups: Sequence[Tensor]) -> list[list[Tensor]]:
    """Groups of as many tensors each, as one tensor each if all of them lie in a row.

    An operation on one long tensor takes less time than on many short ones.
    """
    # Compilers follow no tensor beyond its own memory.
    if torch.compiler.is_compiling() or not all(map(are_in_a_row, groups)):
        return [list(group) for group in groups]
    lengths = [sum(tensor.numel() for tensor in group) for group in groups]
    pairs = zip(groups, lengths, strict=True)
    return [[group[0].detach().as_strided((length,), (1,))] for group, length in pairs]
