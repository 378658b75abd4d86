"""What autograd's graph says of losses before anything is differentiated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor


def nodes(roots: Sequence[Tensor]) -> Iterator[Any]:
    """All nodes of the graph that led to tensors, each once."""
    waiting = [tensor.grad_fn for tensor in roots if tensor.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        following = {other for other, _ in node.next_functions if other is not None} - seen
        seen |= following
        waiting.extend(following)


def leaves(roots: Sequence[Tensor]) -> list[Tensor]:
    """The leaf tensors that tensors depend on."""
    found = (getattr(node, "variable", None) for node in nodes(roots))
    return [leaf for leaf in found if leaf is not None]
