"""The nine-layer convolutional network of the published CelebA experiments."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mtrl_ntk.settings import Settings, number
from mtrl_ntk.supervised.networks.network import Network
from mtrl_ntk.supervised.tasks import Task


@dataclass(frozen=True)
class CNN9Config(Settings):
    """Settings of the nine-layer network."""

    width: int = number(64, at_least=1, limit=4096)
    """Channels of its first layer; the last has eight times as many."""


class CNN9(Network):
    """Seven convolutions and two linear layers with batch normalisation; each head is linear.

    As in FAMO's code, whose linear heads end in a sigmoid that is part of the loss here.
    """

    name = "cnn9"
    config_class = CNN9Config
    fewest_rows = 2
    shortest_side = 8

    def make_trunk(self, config: CNN9Config, inputs: tuple[int, ...]) -> nn.Module:
        """The trunk."""
        first, second, third, fourth = (config.width * multiple for multiple in (1, 2, 4, 8))
        return nn.Sequential(
            *_convolution(inputs[0], first),
            nn.MaxPool2d(2),
            *_convolution(first, second),
            *_convolution(second, second),
            nn.MaxPool2d(2),
            *_convolution(second, third),
            *_convolution(third, third),
            nn.MaxPool2d(2),
            *_convolution(third, fourth),
            *_convolution(fourth, fourth),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            *_linear(fourth),
            *_linear(fourth),
        )

    def make_head(self, config: CNN9Config, task: Task) -> nn.Module:
        """The head of a task."""
        return nn.Linear(8 * config.width, task.outputs)


def _convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(after), nn.ReLU()


def _linear(width: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()
