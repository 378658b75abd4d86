"""What an observation becomes before a network sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.suites.features import FeatureMap
from mtrl_ntk.rl.suites.suite import Suite


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


class MappedObservations(Features):
    """Sums of an observation's entries, some of them squashed.

    Computed in the precision of the observations, in which small differences of large numbers
    survive, whatever layers multiply in.

    Args:
        mapping: Which sums.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, mapping: FeatureMap) -> None:
        super().__init__(mapping.dim)
        self._num_linear = mapping.num_linear
        # The suite's, not learnt: checkpoints have no need of them.
        self.register_buffer("weight", torch.from_numpy(mapping.weight), persistent=False)
        self.register_buffer("bias", torch.from_numpy(mapping.bias), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """See the base class."""
        with torch.autocast(observations.device.type, enabled=False):
            sums = functional.linear(observations, self.weight, self.bias)
        split = self._num_linear
        return torch.cat([sums[..., :split], sums[..., split:].tanh()], -1)


def make_features(name: str, suite: Suite) -> Features:
    """Makes the features of a suite's observations that an option names.

    Raises:
        ConfigError: If the suite has none of that name.
    """
    if name == "raw":
        return RawObservations(suite.observation_dim)
    if name not in suite.features:
        possible = ", ".join(("raw", *suite.features))
        raise ConfigError(f"{suite.title} has no features {name!r}; possible: {possible}")
    return MappedObservations(suite.features[name])
