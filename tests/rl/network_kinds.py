"""Kinds of network that the package does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing import apply_layer
from mtrl_ntk.balancing.tape import ApplyLayer
from mtrl_ntk.rl.networks import Architecture, NetworkKind


class Residual(nn.Module):
    """Hidden layers that add to what they are given, between two shared layers."""

    def __init__(self, input_dim: int, output_dim: int, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.stem = nn.Linear(input_dim, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(architecture.depth))
        self.head = nn.Linear(width, output_dim)

    def forward(self, inputs: Tensor, apply: ApplyLayer = apply_layer) -> Tensor:
        """Maps ``[tasks, batch, input_dim]`` to ``[tasks, batch, output_dim]``."""
        features = apply(self.stem, inputs)
        for block in self.blocks:
            features = features + torch.relu(apply(block, features))
        return apply(self.head, features).to(inputs.dtype)


MORE_KINDS = {
    "vectors_and_heads": NetworkKind(vectors=True, own_heads=True),
    "residual": NetworkKind(one_hot_id=True, network=Residual),
}
"""One that is a row of the table, and one that is a class and a row."""
