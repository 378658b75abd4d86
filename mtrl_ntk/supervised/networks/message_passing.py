"""Message passing between the atoms of molecules, with a set-to-set read-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtrl_ntk.settings import Settings, number
from mtrl_ntk.supervised.networks.network import Network
from mtrl_ntk.supervised.tasks import Task


@dataclass(frozen=True)
class MessagePassingConfig(Settings):
    """Settings of message passing."""

    features: int = number(64, at_least=1, limit=4096)
    """Numbers that stand for an atom, and for a molecule in the end."""
    edge_features: int = number(128, at_least=1, limit=4096)
    """Hidden numbers of a pair of atoms."""
    message_steps: int = number(3, at_least=1, limit=100)
    """Times that atoms tell each other."""
    readout_steps: int = number(3, at_least=1, limit=100)
    """Times that the read-out looks at the atoms."""


class MessagePassing(Network):
    """The network of Gilmer et al. (ICML 2017) as Nash-MTL has it; each head is linear."""

    name = "message_passing"
    config_class = MessagePassingConfig

    def make_trunk(self, config: MessagePassingConfig, inputs: tuple[int, ...]) -> nn.Module:
        """The trunk, of molecules as QM9 gives them."""
        return _Molecule(config, *inputs)

    def make_head(self, config: MessagePassingConfig, task: Task) -> nn.Module:
        """The head of a task."""
        return nn.Linear(config.features, task.outputs)


class _Molecule(nn.Module):
    """The trunk: features of each molecule, ``[rows, features]``."""

    def __init__(self, config: MessagePassingConfig, atom_dim: int, pair_dim: int) -> None:
        super().__init__()
        self._steps, features = config.message_steps, config.features
        self.embedding = nn.Linear(atom_dim, features)
        self.messages = Messages(features, pair_dim, config.edge_features)
        self.memory = nn.GRUCell(features, features)
        self.readout = SetToSet(features, config.readout_steps)
        self.last = nn.Linear(2 * features, features)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        atoms, mask = torch.relu(self.embedding(inputs["atoms"])), inputs["mask"]
        hidden = self.messages.pair_features(inputs["pairs"], mask)
        for _ in range(self._steps):
            heard = torch.relu(self.messages(atoms, hidden))
            atoms = self.memory(heard.flatten(0, 1), atoms.flatten(0, 1)).view_as(atoms)
        return torch.relu(self.last(self.readout(atoms, mask)))


class Messages(nn.Module):
    """Messages to each atom: the mean of its neighbours' features times matrices of the pairs.

    The matrix of a pair is linear in its hidden numbers. So features are multiplied by the matrix
    of each hidden number first and summed over pairs then, and no pair's matrix is written down.

    Args:
        features: Numbers of an atom.
        pair_dim: Numbers of a pair of atoms.
        edge_features: Hidden numbers of a pair.
    """

    def __init__(self, features: int, pair_dim: int, edge_features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(pair_dim, edge_features)
        self.matrices = nn.Linear(edge_features, features * features)
        self.own = nn.Linear(features, features)

    def pair_features(self, pairs: Tensor, mask: Tensor) -> Tensor:
        """Hidden numbers of pairs and a one, over the neighbours, ``[rows, to, from, n + 1]``."""
        others = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        is_pair = (mask[:, :, None] & mask[:, None] & others)[..., None]
        hidden = torch.relu(self.hidden(pairs))
        weighed = torch.cat([hidden, torch.ones_like(hidden[..., :1])], -1) * is_pair
        return weighed / is_pair.sum(2, keepdim=True).clamp(min=1)

    def forward(self, atoms: Tensor, hidden: Tensor) -> Tensor:
        """What each atom is told, and what it tells itself, ``[rows, atoms, features]``."""
        size = atoms.shape[-1]
        parts = torch.cat([self.matrices.weight.T, self.matrices.bias[None]]).view(-1, size, size)
        told = torch.einsum("rjf,nfg->rjng", atoms, parts)
        own: Tensor = self.own(atoms)
        return own + torch.einsum("rijn,rjng->rig", hidden, told)


class SetToSet(nn.Module):
    """Reads a set by looking at it several times (Vinyals et al., ICLR 2016).

    Args:
        features: Numbers of each element.
        steps: How often it looks.
    """

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self._steps = steps
        self.memory = nn.LSTMCell(2 * features, features)

    def forward(self, elements: Tensor, mask: Tensor) -> Tensor:
        """What is read of elements ``[rows, n, features]``, where the mask is true."""
        read = elements.new_zeros(len(elements), 2 * elements.shape[-1])
        state = (read[:, : elements.shape[-1]],) * 2
        for _ in range(self._steps):
            state = self.memory(read, state)
            scores = (elements * state[0][:, None]).sum(-1).masked_fill(~mask, -torch.inf)
            seen = (scores.softmax(1)[..., None] * elements).sum(1)
            read = torch.cat([state[0], seen], dim=1)
        return read
