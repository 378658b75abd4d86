"""What a graph says of what it was made of."""

from __future__ import annotations

import torch
from torch import nn

from mtrl_ntk.balancing.graph import leaves, nodes


def test_leaves_are_what_tensors_depend_on() -> None:
    one, two, other = (nn.Parameter(torch.ones(2)) for _ in range(3))
    fixed = torch.ones(2)
    losses = [(one * two * fixed).sum(), one.sum(), fixed.sum()]
    assert {id(leaf) for leaf in leaves(losses)} == {id(one), id(two)}
    assert id(other) not in {id(leaf) for leaf in leaves(losses)}


def test_nodes_come_once() -> None:
    weight = nn.Parameter(torch.ones(2))
    doubled = 2 * weight
    found = [node.name() for node in nodes([(doubled + doubled).sum()])]
    assert found.count("MulBackward0") == 1
