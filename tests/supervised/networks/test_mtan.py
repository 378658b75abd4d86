"""The multi-task attention network."""

from __future__ import annotations

import torch

from mtrl_ntk.supervised.networks.mtan import MTAN
from mtrl_ntk.supervised.networks.segnet import SegNet, SegNetConfig
from mtrl_ntk.supervised.tasks import Depth, Normals, Segmentation, Task

TASKS: list[Task] = [Segmentation("segmentation", 13), Depth("depth"), Normals("normals")]


def test_the_published_network_has_as_many_parameters() -> None:
    def layer(before: int, after: int, kernel: int = 3) -> int:
        """Of a convolution with batch normalisation."""
        return before * after * kernel**2 + 3 * after

    def attention(before: int, after: int) -> int:
        return layer(before, after, 1) + layer(after, after, 1)

    def count(network: SegNet) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    f = [64, 128, 256, 512, 512]
    down = [attention(64, 64), *(attention(2 * f[i + 1], f[i + 1]) for i in range(4))]
    up = [attention(128, 64), *(attention(f[i + 1] + f[i], f[i]) for i in range(4))]
    after = [layer(f[i], f[i + 1]) for i in range(4)] + [layer(512, 512)]
    before = [layer(64, 64), *(layer(f[i + 1], f[i]) for i in range(3)), layer(512, 512)]
    arguments = (SegNetConfig(), (3, 288, 384), TASKS)
    more = 3 * (sum(down) + sum(up)) + sum(after) + sum(before)
    assert count(MTAN(*arguments)) == count(SegNet(*arguments)) + more


def test_attention_of_a_task_has_gradients_of_that_task_only() -> None:
    network = MTAN(SegNetConfig(2), (3, 32, 44), TASKS)
    outputs = network(torch.randn(2, 3, 32, 44))
    assert outputs["normals"].shape == (2, 3, 32, 44)
    outputs["depth"].square().mean().backward()
    for name, parameter in network.trunk.named_parameters():
        assert parameter.grad is not None
        part, task, *_ = name.split(".")
        if part in ("down_attention", "up_attention") and task != "1":
            assert not bool(parameter.grad.any()), name
    assert bool(network.trunk.get_parameter("up_attention.1.0.0.weight").grad.any())  # type: ignore[union-attr]
