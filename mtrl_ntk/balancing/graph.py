"""What autograd's graph says of losses before anything is differentiated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge


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


def readers(root: Any, what: Tensor | GradientEdge) -> list[tuple[Any, int]]:  # noqa: ANN401
    """The nodes between a root and a tensor that read the tensor, and as which of their inputs.

    Args:
        root: A node.
        what: The tensor that was computed on the way to it, or its edge.
    """
    edge = get_gradient_edge(what) if isinstance(what, Tensor) else what
    place = (edge.node, edge.output_nr)
    waiting, seen, found = [root], {root}, []
    while waiting:
        node = waiting.pop()
        for index, (following, output) in enumerate(node.next_functions):
            if (following, output) == place:
                found.append((node, index))
            elif following is not None and following is not place[0] and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def leaves(roots: Sequence[Tensor]) -> list[Tensor]:
    """The leaf tensors that tensors depend on."""
    found = (getattr(node, "variable", None) for node in nodes(roots))
    return [leaf for leaf in found if leaf is not None]
