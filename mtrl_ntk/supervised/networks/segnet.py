"""SegNet with a head per task, the network of dense prediction in multi-task learning."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

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

    def make_trunk(self, config: SegNetConfig, inputs: tuple[int, ...]) -> nn.Module:
        """The trunk, of images whose sides are at least 32."""
        return _EncoderDecoder(inputs[0], config.width)

    def make_head(self, config: SegNetConfig, task: Task) -> nn.Module:
        """The head of a task."""
        head = nn.Sequential(
            nn.Conv2d(config.width, config.width, 3, padding=1),
            nn.Conv2d(config.width, task.outputs, 1),
        )
        return head.apply(_initialise)


class _EncoderDecoder(nn.Module):
    """The trunk: features of each pixel, ``[rows, width, height, width of images]``."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * multiple for multiple in _MULTIPLES]
        stages = list(zip([channels, *widths[:-1]], widths, _CONVOLUTIONS, strict=True))
        self.encoder = nn.ModuleList(
            _block(before, after, after, count) for before, after, count in stages
        )
        narrowest = [width, *widths[:-1]]
        self.decoder = nn.ModuleList(
            _block(after, before, before, count)
            for before, (_, after, count) in reversed(list(zip(narrowest, stages, strict=True)))
        )
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        places: list[tuple[Tensor, tuple[int, ...]]] = []
        features = images
        for block in self.encoder:
            features = block(features)
            size = features.shape
            features, indices = nn.functional.max_pool2d(features, 2, return_indices=True)
            places.append((indices, size))
        for block in self.decoder:
            indices, size = places.pop()
            features = block(
                nn.functional.max_unpool2d(features, indices, (2, 2), output_size=size[2:])
            )
        return features


def _block(channels: int, first: int, others: int, count: int) -> nn.Sequential:
    """Convolutions, each with batch normalisation."""
    widths = [channels, first, *[others] * (count - 1)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
