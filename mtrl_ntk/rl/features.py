"""What an observation becomes before a network sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Features(nn.Module, ABC):
    """A function of observations without parameters, which all networks of an agent share.

    What it has in buffers is saved with the agent.

    Args:
        dim: Number of features.

    Attributes:
        dim: Number of features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, observations: Tensor) -> Tensor:
        """Maps ``[tasks, batch, observation]`` to ``[tasks, batch, dim]``."""


class RawObservations(Features):
    """The observations as they are."""

    def forward(self, observations: Tensor) -> Tensor:
        """See the base class."""
        return observations
