"""Small networks and batches for the balancing tests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing import Jacobian, Tape, empty_rows, factored_jacobian, sequential_jacobian
from mtrl_ntk.balancing.tape import ApplyLayer, apply_layer


class Network(nn.Module):
    """Linear layers with or without bias and normalisation, in any number and width."""

    def __init__(self, dims: list[int], *, layer_norm: bool, bias: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(dims):
            layers.append(nn.Linear(fan_in, fan_out, bias=bias))
            if layer_norm:
                layers.append(nn.LayerNorm(fan_out))
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: Tensor, apply: ApplyLayer = apply_layer) -> Tensor:
        """Maps ``[tasks, batch, dims[0]]`` to ``[tasks, batch, dims[-1]]``."""
        for layer in self.layers:
            inputs = torch.tanh(apply(layer, inputs))
        return inputs


@dataclass
class Problem:
    """A network, a batch, and the loss of every row, each task's at a scale of its own."""

    network: Network
    inputs: Tensor
    targets: Tensor
    scales: Tensor

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The network's parameters."""
        return list(self.network.parameters())

    def sample_losses(self, apply: ApplyLayer = apply_layer) -> Tensor:
        """Squared error of every row, ``[tasks, batch]``."""
        errors = self.network(self.inputs, apply) - self.targets
        losses: Tensor = self.scales[:, None] * errors.square().sum(2)
        return losses

    def factored(self, num_minibatches: int = 1) -> Jacobian:
        """The Jacobian from one backward pass."""
        tape = Tape()
        return factored_jacobian(tape, self.sample_losses(tape), self.rows(num_minibatches))

    def sequential(self, num_minibatches: int = 1) -> Jacobian:
        """The Jacobian from one backward pass per row."""
        tape = Tape()
        return sequential_jacobian(tape, self.sample_losses(tape), self.rows(num_minibatches))

    def rows(self, num_minibatches: int = 1) -> Tensor:
        """Memory for the Jacobian's rows, full of what must not show through."""
        return empty_rows(self.parameters, len(self.inputs), num_minibatches).fill_(torch.nan)


def make_problem(
    *,
    num_tasks: int = 4,
    batch_size: int = 6,
    dims: tuple[int, ...] = (5, 7, 3),
    layer_norm: bool = False,
    bias: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Problem:
    """Makes a problem from the global random stream."""
    network = Network(list(dims), layer_norm=layer_norm, bias=bias).to(dtype)
    return Problem(
        network,
        torch.randn(num_tasks, batch_size, dims[0], dtype=dtype),
        torch.randn(num_tasks, batch_size, dims[-1], dtype=dtype),
        10.0 ** torch.linspace(-2, 2, num_tasks, dtype=dtype),
    )
