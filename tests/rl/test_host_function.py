"""A function of steps does what the steps do in turn, whatever they are given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtrl_ntk.balancing.forget import forget_tasks
from mtrl_ntk.rl.host_function import as_function
from mtrl_ntk.rl.host_log import Log
from mtrl_ntk.rl.host_program import program

SHAPE = (6, 8)


def numbers_and_flags(x: Tensor) -> Tensor:
    return x.clamp(-0.5, 0.5).add(x, alpha=2).sum(1, keepdim=True) * x.nan_to_num(nan=3)


def other_types(x: Tensor) -> Tensor:
    return (x.double().exp() + x.sum(0, dtype=torch.float64)).to(x) + (x > 0).to(x)


def no_number(x: Tensor) -> Tensor:
    return x.clamp(max=1.0) - x.clamp(min=0.25) + functional.layer_norm(x, SHAPE[1:])


def integers_for_numbers(x: Tensor) -> Tensor:
    return torch.randn_like(x).mul(0).add(x).pow(2).lerp(x, 1)


def indices(x: Tensor) -> Tensor:
    return x[torch.tensor([[1, 2], [0, 3]])].sum((0, 1)) + x[:, [1]]


def lists(x: Tensor) -> Tensor:
    parts = [x + 1, x * 2]
    torch._foreach_lerp_(parts, [x, x], 0.3)
    first, second = torch._foreach_norm(parts)
    return torch.cat([part * first for part in parts]).view(2, *SHAPE).sum(0) - second


def largest_and_smallest(x: Tensor) -> Tensor:
    return x.max() * x - x.min()


def own_operators(x: Tensor) -> Tensor:
    rows = x.clone()
    forget_tasks(rows, x[:, 0] > 0)
    return rows


def gradients(x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    made = functional.layer_norm(x, SHAPE[1:], torch.ones(8), torch.zeros(8)).relu() @ x.T
    (found,) = torch.autograd.grad(functional.softplus(made).std(), x)
    return found


@pytest.mark.parametrize(
    "compute",
    [
        numbers_and_flags,
        other_types,
        no_number,
        integers_for_numbers,
        indices,
        lists,
        largest_and_smallest,
        own_operators,
        gradients,
    ],
)
def test_a_function_does_what_its_steps_do(compute: Callable[[Tensor], Tensor]) -> None:
    x, result = torch.linspace(-1, 1, 48).view(SHAPE), torch.zeros(SHAPE)
    with Log() as log:
        result.copy_(compute(x))
    steps = program(log)
    repeat = as_function(steps)
    for shift in (0.3, -0.7):
        x.copy_(torch.linspace(-1, 1, 48).view(SHAPE) + shift)
        for step in steps:
            step.run()
        expected = result.clone()
        result.zero_()
        repeat()
        assert torch.equal(result, expected)
        assert torch.equal(result, compute(x.clone()))


def test_streams_go_on_as_they_do_in_turn() -> None:
    generator, drawn = torch.Generator().manual_seed(0), torch.zeros(SHAPE)
    with Log() as log:
        drawn.copy_(torch.rand(SHAPE, generator=generator))
    repeat = as_function(program(log))
    expected = torch.Generator().manual_seed(0)
    torch.rand(SHAPE, generator=expected)
    for _ in range(3):
        repeat()
        assert torch.equal(drawn, torch.rand(SHAPE, generator=expected))


def test_numbers_that_are_alike_stay_apart() -> None:
    first, second = torch.zeros(3), torch.zeros(3)
    with Log() as log:
        first.add_(1)
        second.sub_(1)
    repeat = as_function(program(log))
    for times in (2, 3):
        repeat()
        assert first.tolist() == [times] * 3
        assert second.tolist() == [-times] * 3


def test_what_goes_wrong_is_said_and_leaves_pytorch_as_it_was() -> None:
    index, x = torch.zeros(1, dtype=torch.long), torch.zeros(3)
    with Log() as log:
        x.index_fill_(0, index, 1)
    repeat = as_function(program(log))
    index.fill_(9)
    before = torch._C._get_graph_executor_optimize()
    with pytest.raises(RuntimeError, match="index"):
        repeat()
    assert torch._C._get_graph_executor_optimize() == before
    assert (torch.ones(1, requires_grad=True) * 2).requires_grad


def test_nothing_at_all_is_a_function_too() -> None:
    as_function([])()
