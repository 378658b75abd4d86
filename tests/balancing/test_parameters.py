"""Which tensors are meant, and how gradients get to them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtrl_ntk.balancing.parameters import deliver, hooks_resting, tensors_of


def test_modules_and_parameters_may_be_mixed() -> None:
    layer, norm = nn.Linear(2, 3), nn.LayerNorm(3)
    found = tensors_of([layer.bias, layer, norm])
    assert [id(p) for p in found] == [id(p) for p in (layer.bias, layer.weight, *norm.parameters())]
    assert tensors_of(layer.weight)[0] is layer.weight
    assert len(tensors_of(layer)) == 2


def test_computed_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[2\] is computed from others"):
        tensors_of([2 * nn.Parameter(torch.ones(2))])


def test_gradients_are_added_in_the_precision_of_the_parameter() -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.float16))
    for _ in range(2):
        deliver([(weight, torch.tensor([1.0, 2.0]))])
    deliver([])
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float16
    assert weight.grad.tolist() == [2.0, 4.0]


def test_gradients_lie_in_memory_as_parameters_do() -> None:
    weight = nn.Parameter(torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last))
    deliver([(weight, torch.randn(2, 3, 4, 4))])
    assert weight.grad is not None
    assert weight.grad.stride() == weight.stride()


def test_hooks_rest_and_come_back() -> None:
    weight, calls = nn.Parameter(torch.ones(2)), []
    weight.register_hook(lambda _: calls.append("called"))
    with hooks_resting([weight]):
        torch.autograd.grad(weight.sum(), weight)
    assert not calls
    torch.autograd.grad(weight.sum(), weight)
    assert calls == ["called"]
