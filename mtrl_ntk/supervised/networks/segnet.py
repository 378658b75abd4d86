"""SegNet with a head per task, the network of dense prediction in multi-task learning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtrl_ntk.settings import Settings, number
from mtrl_ntk.supervised.networks.network import Network
from mtrl_ntk.supervised.tasks import Task

_MULTIPLES = (1, 2, 4, 8, 8)
"""Channels of the five stages, in widths."""
_CONVOLUTIONS = (2, 2, 3, 3, 3)
"""How many each stage has, in the encoder and in the decoder."""


@dataclass(frozen=True)
class SegNetConfig(Settings):
    """Settings of SegNet."""

    width: int = number(64, at_least=1, limit=4096)
    """Channels of the first stage; the published network has 64, small pictures need 8."""


class SegNet(Network):
    """An encoder and a decoder that puts values back where the encoder's pooling found them.

    The split network of MTAN and Nash-MTL; each head is two convolutions without anything between.
    """

    name = "segnet"
    config_class = SegNetConfig
    shortest_side = 32

    def make_trunk(self, config: SegNetConfig, inputs: tuple[int, ...]) -> nn.Module:
        """The trunk."""
        return EncoderDecoder(inputs[0], config.width)

    def make_head(self, config: SegNetConfig, task: Task) -> nn.Module:
        """The head of a task."""
        head = nn.Sequential(
            nn.Conv2d(config.width, config.width, 3, padding=1),
            Pointwise(config.width, task.outputs, 1),
        )
        return head.apply(initialise)


class EncoderDecoder(nn.Module):
    """The trunk: features of each pixel, ``[rows, width, height, width of images]``.

    Args:
        channels: Channels of the images.
        width: Channels of the first stage.

    Attributes:
        widths: Channels of each stage of the encoder.
        narrower: Those of the same stage of the decoder, whose deepest comes first when it is used.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.widths = [width * multiple for multiple in _MULTIPLES]
        self.narrower = [width, *self.widths[:-1]]
        before = [channels, *self.widths[:-1]]
        self.encoder = nn.ModuleList(map(block, before, self.widths, _CONVOLUTIONS))
        self.decoder = nn.ModuleList(map(block, self.widths, self.narrower, _CONVOLUTIONS))
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Features of some images."""
        places: list[tuple[Tensor, torch.Size]] = []
        features = images
        for stage in self.encoder:
            found = stage(features)
            features, indices = nn.functional.max_pool2d(found, 2, return_indices=True)
            places.append((indices, found.shape))
        for stage, place in zip(reversed(self.decoder), reversed(places), strict=True):
            features = stage(put_back(features, *place))
        return features


def put_back(features: Tensor, indices: Tensor, size: torch.Size) -> Tensor:
    """Features where pooling found them, in an image of the size that it was given."""
    return nn.functional.max_unpool2d(features, indices, (2, 2), output_size=size[2:])


def block(before: int, after: int, count: int) -> nn.Sequential:
    """Convolutions from one number of channels to another, each with batch normalisation."""
    layers: list[nn.Module] = []
    for channels in [before, *[after] * (count - 1)]:
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class Pointwise(nn.Conv2d):
    """A convolution of single pixels, which a CPU does faster where channels are outermost."""

    def forward(self, images: Tensor) -> Tensor:
        """What it makes of images."""
        return super().forward(images.contiguous())


def initialise(module: nn.Module) -> None:
    """Sets a convolution as published."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
