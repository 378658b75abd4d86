"""Critics: what their outputs mean, what they learn by, and what two of them say together."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing import apply_layer
from mtrl_ntk.balancing.tape import ApplyLayer
from mtrl_ntk.rl.features import Features
from mtrl_ntk.rl.networks import ApplyNetwork, Architecture, TaskConditioning, join


class TwinCritic(nn.Module, ABC):
    """Two independent action-value networks, each for all tasks.

    A subclass says what their outputs mean.

    Args:
        features: What observations become.
        action_dim: Action features.
        architecture: Shape of each network.
    """

    num_outputs = 1
    """Outputs of each network for an observation and an action."""

    def __init__(self, features: Features, action_dim: int, architecture: Architecture) -> None:
        super().__init__()
        self.condition = TaskConditioning(features, architecture.num_tasks, architecture.id_dim)
        input_dim = features.dim + action_dim + architecture.id_dim
        self.mlps = nn.ModuleList(
            architecture.network(input_dim, self.num_outputs) for _ in range(2)
        )
        self._joint: ApplyNetwork | None = None

    def join(self) -> None:
        """Applies both networks as one from now on: every layer is one batched product.

        On a GPU, which one of these products does not fill, two take the time of one. On a CPU
        nothing is gained.
        """
        self._joint = join(list(self.mlps))

    def forward(
        self, observations: Tensor, actions: Tensor, apply: ApplyLayer = apply_layer
    ) -> Tensor:
        """Outputs of both networks, ``[2, tasks, batch, num_outputs]``."""
        inputs = self.condition(observations, actions)
        if self._joint is not None:
            return self._joint(inputs.expand(len(self.mlps), -1, -1, -1), apply)
        return torch.stack([mlp(inputs, apply) for mlp in self.mlps])

    @abstractmethod
    def values(self, outputs: Tensor) -> Tensor:
        """The value that each network gives, ``[2, tasks, batch]``, from what they put out."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What both networks learn by, ``[tasks, batch]``.

        Args:
            outputs: What they put out.
            targets: Returns ``[tasks, batch]``, without gradient.
        """

    def value(self, outputs: Tensor) -> Tensor:
        """The value that they agree on, ``[tasks, batch]``: the smaller (clipped double Q)."""
        return self.values(outputs).amin(0)

    def balanced_outputs(self, outputs: Tensor) -> Tensor:
        """What methods take kernels of that ask for the outputs', ``[tasks, batch, kernels]``."""
        return self.values(outputs).permute(1, 2, 0)


class SquaredErrorCritic(TwinCritic):
    """Each network puts out the value, and learns it by its squared error."""

    def values(self, outputs: Tensor) -> Tensor:
        """See the base class."""
        return outputs.squeeze(-1)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        return (self.values(outputs) - targets).square().sum(0)
