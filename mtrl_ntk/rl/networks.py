"""Networks of several tasks, which share all, some or none of their layers; the actor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_ntk.balancing import Weighting, apply_layer
from mtrl_ntk.balancing.ensemble import lay_side_by_side, together
from mtrl_ntk.balancing.layers import TaskEmbedding, TaskLayerNorm, TaskLinear
from mtrl_ntk.balancing.tape import ApplyLayer
from mtrl_ntk.rl.features import Features


@dataclass(frozen=True)
class Architecture:
    """Shape of a network of several tasks."""

    num_tasks: int
    """Number of tasks."""
    kind: str = "shared"
    """What the tasks share: a name in :data:`NETWORK_KINDS`."""
    width: int = 400
    """Units of each hidden layer."""
    depth: int = 3
    """Hidden layers, or residual blocks of two."""
    embedding_dim: int = 50
    """Features of a task's vector, in the kinds that have one."""
    layer_norm: bool = False
    """Normalise each hidden layer before its activation; residual blocks always are normalised."""
    blocks: str = "plain"
    """What the hidden layers form: a name in :data:`BLOCKS`."""
    head_init: float = 0.0
    """Largest entry of the last layer at first, drawn uniformly; 0 for the law of the others."""

    @property
    def shares(self) -> NetworkKind:
        """What the tasks share."""
        return NETWORK_KINDS[self.kind]

    @property
    def id_dim(self) -> int:
        """Input features that name the task by a constant."""
        return self.num_tasks if self.shares.one_hot_id else 0

    @property
    def vector_dim(self) -> int:
        """Input features that name the task by a learned vector."""
        return self.embedding_dim if self.shares.vectors else 0

    @property
    def hidden_copies(self) -> int:
        """Copies of each hidden layer, one per task; zero for one that all tasks share."""
        return self.num_tasks if self.shares.own_hidden_layers else 0

    @property
    def head_copies(self) -> int:
        """Copies of the last layer, one per task; zero for one that all tasks share."""
        return self.num_tasks if self.shares.own_heads else 0

    def network(self, input_dim: int, output_dim: int) -> nn.Module:
        """Makes a network of this shape; ``input_dim`` includes the one-hot task id."""
        return self.shares.network(input_dim, output_dim, self)


class Residual(nn.Sequential):
    """Layers that add to what they are given."""

    def forward(self, inputs: Tensor, apply: ApplyLayer = apply_layer) -> Tensor:
        """Maps ``[tasks, batch, dim]`` to the same shape; ``apply`` applies each layer."""
        return inputs + _apply_in_turn(self, inputs, apply)


def _plain_blocks(dim: int, architecture: Architecture) -> Iterator[nn.Module]:
    width, copies = architecture.width, architecture.hidden_copies
    for fan_in in [dim] + [width] * (architecture.depth - 1):
        yield _linear(fan_in, width, copies)
        if architecture.layer_norm:
            yield _layer_norm(width, copies)
        yield nn.ReLU()


def _residual_blocks(dim: int, architecture: Architecture) -> Iterator[nn.Module]:
    r"""Blocks :math:`x + W_2 \mathrm{relu}(W_1 \mathrm{LN}(x))` after a layer, and a last LN.

    As in Lee et al., *SimBa*, arXiv 2410.09754, whose blocks are four times as wide inside.
    """
    width, copies = architecture.width, architecture.hidden_copies
    yield _linear(dim, width, copies)
    for _ in range(architecture.depth):
        yield Residual(
            _layer_norm(width, copies),
            _linear(width, width, copies),
            nn.ReLU(),
            _linear(width, width, copies),
        )
    yield _layer_norm(width, copies)


BLOCKS: dict[str, Callable[[int, Architecture], Iterator[nn.Module]]] = {
    "plain": _plain_blocks,
    "residual": _residual_blocks,
}
"""What lies between the inputs, of which there are so many, and the last layer, by name."""


class MLP(nn.Module):
    """A multi-layer perceptron with ReLU activations.

    Weights are He-uniform and biases zero, but for the last layer's where their size is given; the
    entries of a task's vector are standard normal.

    Args:
        input_dim: Input features, without a learned vector of the task.
        output_dim: Output features.
        architecture: Shape of the network.
    """

    def __init__(self, input_dim: int, output_dim: int, architecture: Architecture) -> None:
        super().__init__()
        vector_dim = architecture.vector_dim
        self.embedding = TaskEmbedding(architecture.num_tasks, vector_dim) if vector_dim else None
        hidden = BLOCKS[architecture.blocks](input_dim + vector_dim, architecture)
        self.layers = nn.Sequential(*hidden)
        head = _linear(architecture.width, output_dim, architecture.head_copies)
        if architecture.head_init:
            for parameter in head.parameters():
                nn.init.uniform_(parameter, -architecture.head_init, architecture.head_init)
        self.layers.append(head)

    def forward(self, inputs: Tensor, apply: ApplyLayer = apply_layer) -> Tensor:
        """Maps ``[tasks, batch, input_dim]`` to ``[tasks, batch, output_dim]``.

        Args:
            inputs: The inputs.
            apply: Applies a layer; a tape records the calls.
        """
        return _apply_layers(self.embedding, self.layers, inputs, apply)


def _apply_layers(
    embedding: nn.Module | None, layers: Iterable[nn.Module], inputs: Tensor, apply: ApplyLayer
) -> Tensor:
    features = inputs
    if embedding is not None:
        features = torch.cat([inputs, apply(embedding, inputs)], dim=-1)
    # Losses are computed in the precision of the data, whatever the layers multiply in.
    return _apply_in_turn(layers, features, apply).to(inputs.dtype)


def _apply_in_turn(layers: Iterable[nn.Module], features: Tensor, apply: ApplyLayer) -> Tensor:
    for layer in layers:
        is_block = isinstance(layer, Residual)
        features = layer(features, apply) if is_block else apply(layer, features)
    return features


ApplyNetwork = Callable[[Tensor, ApplyLayer], Tensor]


def join(networks: Sequence[Any]) -> ApplyNetwork | None:
    """Moves networks of one shape together and makes one of them, with their axis first.

    The parameters stay those of the networks. None if there is no such way for their class.
    """
    if any(type(network) is not MLP for network in networks):
        return None
    lay_side_by_side(networks)
    embeddings = [network.embedding for network in networks if network.embedding is not None]
    groups = zip(*(network.layers for network in networks), strict=True)
    embedding = together(embeddings) if embeddings else None
    return partial(_apply_layers, embedding, [_together(group) for group in groups])


def _together(layers: Sequence[Any]) -> nn.Module:
    if isinstance(layers[0], Residual):
        return Residual(*map(_together, zip(*layers, strict=True)))
    return together(layers)


def _linear(input_dim: int, output_dim: int, num_copies: int) -> nn.Module:
    if num_copies:
        return TaskLinear(num_copies, input_dim, output_dim)
    layer = nn.Linear(input_dim, output_dim)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def _layer_norm(dim: int, num_copies: int) -> nn.Module:
    return TaskLayerNorm(num_copies, dim) if num_copies else nn.LayerNorm(dim)


@dataclass(frozen=True)
class NetworkKind:
    """What the tasks share of a network: all that a row does not give each task for its own."""

    one_hot_id: bool = False
    """The inputs hold a one-hot task id."""
    vectors: bool = False
    """The inputs hold a learned vector of each task's own."""
    own_hidden_layers: bool = False
    """Each task has hidden layers of its own."""
    own_heads: bool = False
    """Each task has a last layer of its own."""
    network: type[nn.Module] = MLP
    """The class, made and called as an MLP is: its layers in the order of its parameters, through
    ``apply``. Twin critics of another class are never joined."""

    @property
    def shares_nothing(self) -> bool:
        """Whether it is as many networks as there are tasks."""
        return self.own_hidden_layers and self.own_heads


NETWORK_KINDS: dict[str, NetworkKind] = {
    "shared": NetworkKind(one_hot_id=True),
    "task_embedding": NetworkKind(vectors=True),
    "multi_head": NetworkKind(one_hot_id=True, own_heads=True),
    "independent": NetworkKind(own_hidden_layers=True, own_heads=True),
}
"""The kinds of network by name."""


def why_not(method: type[Weighting], kind: str) -> str | None:
    """Says in a line why a balancing method cannot balance a kind of network, or None if it can."""
    shares = NETWORK_KINDS[kind]
    if shares.shares_nothing and method.balances:
        return f"the network {kind} shares nothing to balance; use --method equal"
    if method.needs_representation and (shares.own_hidden_layers or not shares.own_heads):
        return "it needs shared features that heads read; use --network multi_head"
    return None


class TaskConditioning(nn.Module):
    """Makes the inputs of a network: features, what else there is, and the task id if there is one.

    Args:
        features: What observations become.
        num_tasks: Number of tasks.
        id_dim: Width of the one-hot id: the number of tasks, or zero for none.
    """

    task_ids: Tensor

    def __init__(self, features: Features, num_tasks: int, id_dim: int) -> None:
        super().__init__()
        # In a tuple, where modules do not look for submodules: they belong to the agent.
        self._features = (features,)
        ids = torch.eye(num_tasks, id_dim)[:, None]
        self.register_buffer("task_ids", ids, persistent=False)

    def forward(self, observations: Tensor, *others: Tensor) -> Tensor:
        """Joins what is ``[tasks, batch, ...]`` to inputs ``[tasks, batch, input_dim]``."""
        features: Tensor = self._features[0](observations)
        task_ids = self.task_ids.expand(-1, observations.shape[1], -1)
        return torch.cat([features, *others, task_ids], dim=2)


class PolicySample(NamedTuple):
    """Actions drawn from the policy."""

    actions: Tensor
    """``[tasks, batch, action]``, inside (-1, 1)."""
    log_probs: Tensor
    """Log-density of each action, in nats, ``[tasks, batch]``."""
    mean: Tensor
    """Mean before the tanh, ``[tasks, batch, action]``."""


class Actor(nn.Module):
    """A tanh-Gaussian policy, one network for all tasks.

    Args:
        features: What observations become.
        action_dim: Action features.
        architecture: Shape of the network.
        log_std_bounds: Interval to which the log standard deviation is clamped.
    """

    def __init__(
        self,
        features: Features,
        action_dim: int,
        architecture: Architecture,
        *,
        log_std_bounds: tuple[float, float],
    ) -> None:
        super().__init__()
        self.log_std_bounds = log_std_bounds
        self.condition = TaskConditioning(features, architecture.num_tasks, architecture.id_dim)
        self.mlp = architecture.network(features.dim + architecture.id_dim, 2 * action_dim)

    def forward(
        self, observations: Tensor, apply: ApplyLayer = apply_layer
    ) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, each ``[tasks, batch, action]``."""
        mean, log_std = self.mlp(self.condition(observations), apply).chunk(2, dim=-1)
        return mean, log_std.clamp(*self.log_std_bounds)

    def sample(
        self, observations: Tensor, noise: Tensor, apply: ApplyLayer = apply_layer
    ) -> PolicySample:
        """Draws actions by reparametrisation.

        Args:
            observations: ``[tasks, batch, observation]``.
            noise: Standard normal noise, ``[tasks, batch, action]``.
            apply: Applies a layer; a tape records the calls.
        """
        mean, log_std = self(observations, apply)
        pre_tanh = mean + log_std.exp() * noise
        actions = pre_tanh.tanh()
        return PolicySample(actions, tanh_gaussian_log_prob(pre_tanh, log_std, noise), mean)

    def mode(self, observations: Tensor) -> Tensor:
        """The deterministic action, ``[tasks, batch, action]``."""
        mean: Tensor = self(observations)[0]
        return mean.tanh()


def tanh_gaussian_log_prob(pre_tanh: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    r"""Log-density of ``tanh(pre_tanh)`` with ``pre_tanh = mean + exp(log_std) * noise``.

    The change of variables uses
    :math:`\log(1 - \tanh^2 u) = 2 (\log 2 - u - \mathrm{softplus}(-2u))`, which stays exact where
    the tanh saturates.

    Returns:
        The sum over the last axis, in nats.
    """
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_slope = 2 * (math.log(2) - pre_tanh - functional.softplus(-2 * pre_tanh))
    return (gaussian - log_slope).sum(-1)
