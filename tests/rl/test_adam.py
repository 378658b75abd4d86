"""The agent's Adam is torch's, but its tensors stay where they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.memory import lay_in_a_row
from mtrl_ntk.rl.adam import Adam

SHAPES = [(3, 4), (5,), ()]


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]
    for parameter in made:
        parameter.grad = torch.zeros_like(parameter)
    return made


def take_steps(owned: list[Tensor], optimizer: Adam | torch.optim.Optimizer, count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for parameter in owned:
            assert parameter.grad is not None
            parameter.grad.copy_(torch.randn(parameter.shape, generator=generator))
        optimizer.step()


def test_it_takes_the_steps_of_torch_bit_for_bit() -> None:
    ours, theirs = parameters(), parameters()
    reference = torch.optim.Adam(theirs, lr=1e-2, eps=1e-5, fused=True)
    optimizer = Adam(ours, 1e-2, 1e-5)
    take_steps(ours, optimizer, 20)
    take_steps(theirs, reference, 20)
    assert all(map(torch.equal, ours, theirs))
    expected = {
        f"{index}.{key}": tensor
        for index, entry in reference.state_dict()["state"].items()
        for key, tensor in entry.items()
    }
    state = optimizer.state()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_step_that_is_none_changes_nothing() -> None:
    owned = parameters()
    optimizer = Adam(owned, 1e-2)
    take_steps(owned, optimizer, 2)
    before = [tensor.clone() for tensor in (*owned, *optimizer.state().values())]
    optimizer.found_inf.fill_(1)
    take_steps(owned, optimizer, 3)
    assert all(map(torch.equal, before, (*owned, *optimizer.state().values())))


def test_what_is_loaded_is_written_into_the_tensors_that_are_there() -> None:
    owned, others = parameters(), parameters()
    optimizer, other = Adam(owned, 1e-2), Adam(others, 1e-2)
    take_steps(owned, optimizer, 3)
    take_steps(others, other, 1)
    before = {name: tensor.data_ptr() for name, tensor in other.state().items()}
    other.load_state(optimizer.state())
    assert {name: tensor.data_ptr() for name, tensor in other.state().items()} == before
    assert all(map(torch.equal, other.state().values(), optimizer.state().values()))


def test_without_a_step_there_is_no_state_and_none_can_be_loaded() -> None:
    owned = parameters()
    optimizer = Adam(owned, 1e-2)
    assert optimizer.state() == {}
    take_steps(owned, optimizer, 2)
    optimizer.load_state({})
    assert optimizer.state() == {}


def test_a_parameter_without_a_gradient_is_an_error() -> None:
    with pytest.raises(ValueError, match="no gradient"):
        Adam([torch.zeros(2, requires_grad=True)], 1e-2).step()


def test_what_lies_in_a_row_is_moved_alike() -> None:
    apart, rows = parameters(), parameters()
    lay_in_a_row(rows)
    lay_in_a_row([row.grad for row in rows if row.grad is not None])
    one, other = Adam(apart, 1e-2), Adam(rows, 1e-2)
    take_steps(apart, one, 20)
    take_steps(rows, other, 20)
    assert_close(rows, apart)
    assert_close(list(other.state().values()), list(one.state().values()))
