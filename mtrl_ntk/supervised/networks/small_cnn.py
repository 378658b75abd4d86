"""A small convolutional network for small images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mtrl_ntk.settings import Settings, number
from mtrl_ntk.supervised.networks.network import Network
from mtrl_ntk.supervised.tasks import Task


@dataclass(frozen=True)
class SmallCNNConfig(Settings):
    """Settings of a small convolutional network."""

    width: int = number(16, at_least=1, limit=4096)
    """Channels of its first layer; the second has twice as many."""
    features: int = number(64, at_least=1, limit=10**5)
    """Numbers that all tasks share."""


class SmallCNN(Network):
    """Two convolutions and a linear layer; each head is a hidden layer and a linear one.

    It has no batch normalisation, so that examples do not depend on each other.
    """

    name = "small_cnn"
    config_class = SmallCNNConfig

    def make_trunk(self, config: SmallCNNConfig, inputs: tuple[int, ...]) -> nn.Module:
        """The trunk, of images whose sides are even."""
        channels, height, width = inputs
        return nn.Sequential(
            nn.Conv2d(channels, config.width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.width, 2 * config.width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * config.width * (height // 2) * (width // 2), config.features),
            nn.ReLU(),
        )

    def make_head(self, config: SmallCNNConfig, task: Task) -> nn.Module:
        """The head of a task."""
        return nn.Sequential(
            nn.Linear(config.features, config.features),
            nn.ReLU(),
            nn.Linear(config.features, task.outputs),
        )
