"""The multi-task attention network: SegNet, of whose features each task chooses its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_ntk.supervised.datasets.dataset import Inputs
from mtrl_ntk.supervised.networks.segnet import (
    EncoderDecoder,
    SegNet,
    SegNetConfig,
    block,
    initialise,
    put_back,
)
from mtrl_ntk.supervised.tasks import Task

_FIRST = 3
"""Layers of a stage that are its first convolution; attention reads what these return."""


class MTAN(SegNet):
    """SegNet with attention modules for each task (Liu et al., CVPR 2019).

    The network of the published tables on NYUv2 and CityScapes. As in their code the attention
    modules are balanced with what is shared, though each has gradients of its own task only.
    """

    name = "mtan"

    def __init__(
        self, config: SegNetConfig, inputs: tuple[int, ...], tasks: Sequence[Task]
    ) -> None:
        super().__init__(config, inputs, tasks)
        assert isinstance(self.trunk, EncoderDecoder)
        self.trunk = _Attended(self.trunk, len(tasks))

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """The output of each task, by its name."""
        heads = zip(self.heads.items(), self.trunk(inputs), strict=True)
        return {name: head(features) for (name, head), features in heads}


class _Attended(nn.Module):
    """The trunk: features for each task, ``[tasks, rows, width, height, width of images]``."""

    def __init__(self, shared: EncoderDecoder, num_tasks: int) -> None:
        super().__init__()
        self.shared = shared
        widths, narrower = shared.widths, shared.narrower
        read = [widths[0], *(2 * width for width in widths[1:])]
        self.down_attention = nn.ModuleList(
            nn.ModuleList(map(_attention, read, widths)) for _ in range(num_tasks)
        )
        both = [wide + narrow for wide, narrow in zip(widths, narrower, strict=True)]
        self.up_attention = nn.ModuleList(
            nn.ModuleList(map(_attention, both, narrower)) for _ in range(num_tasks)
        )
        steps = pairwise([*widths, widths[-1]])
        self.down = nn.ModuleList(block(before, after, 1) for before, after in steps)
        self.up = nn.ModuleList(map(block, widths, narrower, [1] * len(widths)))
        for part in (self.down_attention, self.up_attention, self.down, self.up):
            part.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        down, places = [], []
        features = images
        for stage in self.shared.encoder:
            early, late = _both(stage, features)
            features, indices = functional.max_pool2d(late, 2, return_indices=True)
            down.append((early, late))
            places.append((indices, late.shape))
        up = []
        for stage, place in zip(reversed(self.shared.decoder), reversed(places), strict=True):
            put = put_back(features, *place)
            features = stage(put)
            up.append((put, features))
        return torch.stack(
            [
                self._chosen(down, up, *attention)
                for attention in zip(self.down_attention, self.up_attention, strict=True)
            ]
        )

    def _chosen(
        self,
        down: Sequence[tuple[Tensor, Tensor]],
        up: Sequence[tuple[Tensor, Tensor]],
        down_attention: nn.Module,
        up_attention: nn.Module,
    ) -> Tensor:
        """What one task chooses of the features of all stages, each read with its last choice."""
        assert isinstance(down_attention, nn.ModuleList)
        assert isinstance(up_attention, nn.ModuleList)
        chosen: Tensor | None = None
        for (early, late), attend, convolve in zip(down, down_attention, self.down, strict=True):
            read = early if chosen is None else torch.cat([early, chosen], dim=1)
            chosen = functional.max_pool2d(convolve(attend(read) * late), 2)
        assert chosen is not None
        later = zip(up, reversed(up_attention), reversed(self.up), strict=True)
        for (put, late), attend, convolve in later:
            larger = functional.interpolate(
                chosen, put.shape[2:], mode="bilinear", align_corners=True
            )
            chosen = attend(torch.cat([put, convolve(larger)], dim=1)) * late
        return chosen


def _both(stage: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """What a stage's first convolution returns, and what all of it does."""
    assert isinstance(stage, nn.Sequential)
    early = stage[:_FIRST](features)
    return early, stage[_FIRST:](early)


def _attention(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 1),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Conv2d(after, after, 1),
        nn.BatchNorm2d(after),
        nn.Sigmoid(),
    )
