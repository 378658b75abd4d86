"""Which tensors a user means by modules and parameters, and how gradients get to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.distributed import num_processes
from mtrl_ntk.settings import check_kind

Parameters = nn.Module | Tensor | Iterable["nn.Module | Tensor"]
"""Modules, parameters, or several of either."""


def tensors_of(parameters: Parameters) -> list[Tensor]:
    """The tensors of modules and parameters, each once, in their order.

    Raises:
        ValueError: If something is neither, or no leaf, which has no gradient of its own.
    """
    wanted = "a module, a parameter, or several of them"
    if not isinstance(parameters, nn.Module | Tensor):
        check_kind("what was named", parameters, Iterable, wanted)
    parts = [parameters] if isinstance(parameters, nn.Module | Tensor) else parameters
    found: dict[int, Tensor] = {}
    for part in parts:
        check_kind("what was named", part, (nn.Module, Tensor), wanted)
        tensors = [part] if isinstance(part, Tensor) else part.parameters()
        found.update((id(tensor), tensor) for tensor in tensors)
    for tensor in found.values():
        if not tensor.is_leaf:
            raise ValueError(
                f"a tensor of shape {list(tensor.shape)} is computed from others: name the "
                "parameters that it is computed from"
            )
    return list(found.values())


def deliver(gradients: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Adds gradients to the ``.grad`` of leaves, as their part of a backward pass would.

    Autograd does it itself where something waits for gradients: hooks, or what synchronises
    processes. Elsewhere it would only copy them.

    Args:
        gradients: Leaves and gradients, which are taken over.
    """
    awaited = []
    for leaf, gradient in gradients:
        part = gradient.to(leaf.dtype)
        if _is_awaited(leaf):
            awaited.append((leaf, part))
        elif leaf.grad is None:
            leaf.grad = part
        else:
            leaf.grad.add_(part)
    if awaited:
        leaves, parts = zip(*awaited, strict=True)
        torch.autograd.backward(leaves, parts)


def _is_awaited(leaf: Tensor) -> bool:
    hooks = leaf._backward_hooks or getattr(leaf, "_post_accumulate_grad_hooks", None)
    # Optimisers want gradients that lie in memory as the parameters do: autograd sees to it.
    return bool(hooks) or num_processes() > 1 or not leaf.is_contiguous()


@contextmanager
def hooks_resting(leaves: Sequence[Tensor]) -> Iterator[None]:
    """Keeps the hooks of leaves from being called, which are meant for the gradient, not rows."""
    hooks = [leaf._backward_hooks for leaf in leaves if leaf._backward_hooks]
    kept = [dict(each) for each in hooks]
    for each in hooks:
        each.clear()
    try:
        yield
    finally:
        for each, contents in zip(hooks, kept, strict=True):
            each.update(contents)
