"""Tensors in a row are seen as one, and others are not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.memory import are_in_a_row, as_rows, lay_in_a_row

SHAPES = [(3, 4), (5,), (), (2, 1)]


def make() -> list[Tensor]:
    return [torch.randn(shape) for shape in SHAPES]


def test_what_is_laid_in_a_row_stays_what_it_is() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    parameters = list(network.parameters())
    before = [parameter.clone() for parameter in parameters]
    assert not are_in_a_row(parameters)
    lay_in_a_row(parameters)
    assert are_in_a_row(parameters)
    assert all(one is other for one, other in zip(network.parameters(), parameters, strict=True))
    assert all(map(torch.equal, parameters, before))


def test_only_in_order_and_from_one_piece_of_memory_is_it_a_row() -> None:
    tensors = make()
    lay_in_a_row(tensors)
    assert are_in_a_row(tensors)
    assert are_in_a_row(tensors[1:])
    assert not are_in_a_row(tensors[::-1])
    assert not are_in_a_row([tensors[0], *tensors[2:]])
    assert not are_in_a_row([tensors[0].t(), *tensors[1:]])


def test_groups_are_changed_as_one_if_all_of_them_are_rows() -> None:
    rows, others, apart = make(), make(), make()
    lay_in_a_row(rows)
    lay_in_a_row(others)
    expected = [torch.lerp(one, other, 0.3) for one, other in zip(rows, others, strict=True)]
    one, other = as_rows(rows, others)
    assert (len(one), len(other)) == (1, 1)
    torch._foreach_lerp_(one, other, 0.3)
    for changed, tensor in zip(rows, expected, strict=True):
        torch.testing.assert_close(changed, tensor)
    assert [len(group) for group in as_rows(rows, apart)] == [len(SHAPES)] * 2
