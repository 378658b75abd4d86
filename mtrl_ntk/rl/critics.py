"""Critics: what their outputs mean, what they learn by, and what two of them say together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing import apply_layer
from mtrl_ntk.balancing.tape import ApplyLayer
from mtrl_ntk.rl.features import Features
from mtrl_ntk.rl.networks import ApplyNetwork, Architecture, TaskConditioning, join


class CriticOptions(NamedTuple):
    """What critics may be told; each kind heeds what it has a use for."""

    twin: str = "min"
    """What two values are together: a name in :data:`TWINS`."""
    bins: int = 101
    """Bins of a histogram over values."""
    largest_value: float = 10.0
    """Where the histogram ends, on both sides."""


_DEFAULTS = CriticOptions()


TWINS: dict[str, Callable[[Tensor, int], Tensor]] = {"min": torch.amin, "mean": torch.mean}
"""What the values of two critics are together: the smaller (clipped double Q), or the mean."""


class TwinCritic(nn.Module, ABC):
    """Two independent action-value networks, each for all tasks.

    A subclass says what their outputs mean.

    Args:
        features: What observations become.
        action_dim: Action features.
        architecture: Shape of each network.
        options: What else it may be told.
        num_outputs: Outputs of each network for an observation and an action.
    """

    def __init__(
        self,
        features: Features,
        action_dim: int,
        architecture: Architecture,
        options: CriticOptions = _DEFAULTS,
        *,
        num_outputs: int = 1,
    ) -> None:
        super().__init__()
        self._together = TWINS[options.twin]
        self.condition = TaskConditioning(features, architecture.num_tasks, architecture.id_dim)
        input_dim = features.dim + action_dim + architecture.id_dim
        self.mlps = nn.ModuleList(architecture.network(input_dim, num_outputs) for _ in range(2))
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
        """The value that they agree on, ``[tasks, batch]``."""
        return self._together(self.values(outputs), 0)

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


class CategoricalCritic(TwinCritic):
    r"""Each network puts out the logits of a histogram over values, and learns its cross-entropy.

    A target is a histogram too: of a Gaussian about it, :math:`0.75` bins wide, each bin has its
    integral, as a share of that over all bins. The value is the mean of the bins' centres. See
    Farebrother et al., *Stop Regressing* (HL-Gauss), arXiv 2403.03950, section 3.1. Targets outside
    of the histogram count as its ends.

    Args:
        features: What observations become.
        action_dim: Action features.
        architecture: Shape of each network.
        options: What the histogram is like.
    """

    edges: Tensor

    def __init__(
        self,
        features: Features,
        action_dim: int,
        architecture: Architecture,
        options: CriticOptions = _DEFAULTS,
    ) -> None:
        super().__init__(features, action_dim, architecture, options, num_outputs=options.bins)
        end = options.largest_value
        edges = torch.linspace(-end, end, options.bins + 1)
        self.register_buffer("edges", edges, persistent=False)

    def values(self, outputs: Tensor) -> Tensor:
        """See the base class."""
        return outputs.softmax(-1) @ ((self.edges[1:] + self.edges[:-1]) / 2)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        entropies: Tensor = -(self._histograms(targets) * outputs.log_softmax(-1)).sum(-1)
        return entropies.sum(0)

    def _histograms(self, targets: Tensor) -> Tensor:
        edges = self.edges
        # A target that is not finite may not come out as one of the ends.
        inside = targets.clamp(edges[0], edges[-1]) + 0 * targets
        width = 0.75 * (edges[1] - edges[0])
        below = torch.special.ndtr((edges - inside[..., None]) / width)
        shares: Tensor = below.diff(dim=-1) / (below[..., -1:] - below[..., :1])
        return shares


CRITICS: dict[str, type[TwinCritic]] = {
    "mse": SquaredErrorCritic,
    "categorical": CategoricalCritic,
}
"""The kinds of critic by name."""
