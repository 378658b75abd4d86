"""Networks as users have them, on one input for all tasks, and what they are trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

FEATURES = 6


class Reshaped(nn.Module):
    """Images of two channels from rows of numbers."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, 32]`` to ``[rows, 2, 4, 4]``."""
        outputs: Tensor = inputs.unflatten(1, (2, 4, 4))
        return outputs


class Sequences(nn.Module):
    """Sequences of eight from rows of numbers."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, 32]`` to ``[rows, 8, 4]``."""
        outputs: Tensor = inputs.unflatten(1, (8, 4))
        return outputs


class Last(nn.Module):
    """The last outputs of a recurrent network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, 8, 4]`` to ``[rows, features]``."""
        outputs: Tensor = self.network(inputs)[0][:, -1]
        return outputs


class Mean(nn.Module):
    """The mean over a sequence."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, length, features]`` to ``[rows, features]``."""
        return inputs.mean(1)


class Tied(nn.Module):
    """Two layers of one weight, which is also pulled at by a penalty on the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.second.weight = self.first.weight
        self.last = nn.Linear(32, FEATURES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, 32]`` to ``[rows, features]``."""
        hidden = torch.tanh(self.second(torch.tanh(self.first(inputs))))
        outputs: Tensor = self.last(hidden) + self.first.weight.square().sum()
        return outputs


class Functional(nn.Module):
    """A layer that is called with its parameters from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, FEATURES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, 32]`` to ``[rows, features]``."""
        outputs: Tensor = functional_call(
            self.layer, dict(self.layer.named_parameters()), (inputs,)
        )
        return torch.tanh(outputs)


def _convolutions() -> nn.Module:
    return nn.Sequential(
        Reshaped(),
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.PReLU(),
        nn.Flatten(),
        nn.Linear(24, FEATURES),
    )


def _attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(Sequences(), layer, Mean(), nn.Linear(4, FEATURES))


TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Linear(32, 8), nn.ELU(), nn.Linear(8, FEATURES)),
    "convolutions": _convolutions,
    "attention": _attention,
    "gru": lambda: nn.Sequential(Sequences(), Last(nn.GRU(4, FEATURES, batch_first=True))),
    "parametrised": lambda: nn.Sequential(weight_norm(nn.Linear(32, FEATURES)), nn.GELU()),
    "tied": Tied,
    "functional": Functional,
}
"""Networks from ``[rows, 32]`` to ``[rows, features]`` by name."""


class Network(nn.Module):
    """A trunk and three heads: two layers for a number, classes, and a vector."""

    def __init__(self, trunk: str) -> None:
        super().__init__()
        self.trunk: Any = TRUNKS[trunk]()
        self.heads = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, 1)),
                nn.Linear(FEATURES, 4),
                nn.Linear(FEATURES, 2),
            ]
        )


@dataclass
class SharedInput:
    """One batch for three unlike tasks, whose losses are of unlike size."""

    network: Network
    inputs: Tensor
    numbers: Tensor
    classes: Tensor
    vectors: Tensor

    @property
    def shared(self) -> list[nn.Parameter]:
        """Parameters of the trunk."""
        return list(self.network.trunk.parameters())

    @property
    def own(self) -> list[nn.Parameter]:
        """Parameters of the heads."""
        return list(self.network.heads.parameters())

    def sample_losses(self, features: Tensor | None = None) -> list[Tensor]:
        """Loss of every row, ``[rows]`` for each task."""
        z = self.network.trunk(self.inputs) if features is None else features
        number, classes, vector = (head(z) for head in self.network.heads)
        return [
            (number[:, 0] - self.numbers).square(),
            functional.cross_entropy(classes, self.classes, reduction="none"),
            100 * (vector - self.vectors).square().sum(1),
        ]

    def losses(self) -> list[Tensor]:
        """Mean loss of every task."""
        return [loss.mean() for loss in self.sample_losses()]

    def rows(self, num_minibatches: int = 1) -> Tensor:
        """Gradients of the mini-batches by one backward pass each, ``[3, n, entries]``."""
        parts = [
            part.mean() for losses in self.sample_losses() for part in losses.chunk(num_minibatches)
        ]
        rows = [
            torch.cat([g.flatten() for g in torch.autograd.grad(p, self.shared, retain_graph=True)])
            for p in parts
        ]
        matrices: Tensor = torch.stack(rows).unflatten(0, (3, -1))
        return matrices


def make_shared_input(
    trunk: str = "linear", *, rows: int = 8, dtype: torch.dtype = torch.float64
) -> SharedInput:
    """Makes such a problem from the global random stream."""
    return SharedInput(
        Network(trunk).to(dtype),
        torch.randn(rows, 32, dtype=dtype),
        torch.randn(rows, dtype=dtype),
        torch.randint(0, 4, (rows,)),
        torch.randn(rows, 2, dtype=dtype),
    )
