"""The nine-layer network of CelebA."""

from __future__ import annotations

import torch
from torch import nn

from mtrl_ntk.supervised.networks.cnn9 import CNN9, CNN9Config
from mtrl_ntk.supervised.tasks import Attribute


def test_it_has_nine_layers_and_a_linear_head_for_each_attribute() -> None:
    network = CNN9(CNN9Config(), (3, 64, 64), [Attribute(f"a{index}") for index in range(40)])
    kinds = (nn.Conv2d, nn.Linear)
    layers = [module for module in network.trunk.modules() if isinstance(module, kinds)]
    assert [layer.weight.shape[0] for layer in layers] == [64, 128, 128, *[256] * 2, *[512] * 4]
    assert all(isinstance(head, nn.Linear) for head in network.heads.values())
    assert len(network.heads) == 40
    outputs = network.eval()(torch.zeros(2, 3, 64, 64))
    assert {output.shape for output in outputs.values()} == {torch.Size([2, 1])}
