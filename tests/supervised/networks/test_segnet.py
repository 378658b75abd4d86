"""SegNet."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from mtrl_ntk.supervised.networks.segnet import SegNet, SegNetConfig
from mtrl_ntk.supervised.tasks import Depth, Normals, Segmentation

TASKS = [Segmentation("segmentation", 13), Depth("depth"), Normals("normals")]


def test_layers_are_those_of_the_published_network() -> None:
    network = SegNet(SegNetConfig(), (3, 288, 384), TASKS)
    found = [
        (module.in_channels, module.out_channels)
        for module in network.trunk.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    down = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    up = [[64] * 3, [128, 64, 64], [256, 128, 128, 128], [512, 256, 256, 256], [512] * 4]
    assert found == [*pairwise(down), *(pair for stage in up for pair in pairwise(stage))]


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (72, 96)])
def test_outputs_are_as_large_as_images(size: tuple[int, int]) -> None:
    network = SegNet(SegNetConfig(2), (3, *size), TASKS)
    for task, output in zip(TASKS, network(torch.randn(2, 3, *size)).values(), strict=True):
        assert output.shape == (2, task.outputs, *size)
