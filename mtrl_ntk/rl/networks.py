"""Actor and critic networks that all tasks share, conditioned on a one-hot task id."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_ntk.balancing import apply_layer
from mtrl_ntk.balancing.tape import ApplyLayer


class MLP(nn.Module):
    """A multi-layer perceptron with ReLU activations.

    Weights are He-uniform and biases zero, as in the Meta-World+ protocol.

    Args:
        input_dim: Input features.
        output_dim: Output features.
        width: Units of each hidden layer.
        depth: Hidden layers.
        layer_norm: Normalise each hidden layer before its activation.
    """

    def __init__(
        self, input_dim: int, output_dim: int, *, width: int, depth: int, layer_norm: bool = False
    ) -> None:
        super().__init__()
        dims = [input_dim] + [width] * depth
        self.layers = nn.Sequential()
        for fan_in, fan_out in pairwise(dims):
            self.layers.append(_linear(fan_in, fan_out))
            if layer_norm:
                self.layers.append(nn.LayerNorm(fan_out))
            self.layers.append(nn.ReLU())
        self.layers.append(_linear(width, output_dim))

    def forward(self, inputs: Tensor, apply: ApplyLayer = apply_layer) -> Tensor:
        """Maps ``[tasks, batch, input_dim]`` to ``[tasks, batch, output_dim]``.

        Args:
            inputs: The inputs.
            apply: Applies a layer; a tape records the calls.
        """
        features = inputs
        for layer in self.layers:
            features = apply(layer, features)
        return features


def _linear(input_dim: int, output_dim: int) -> nn.Linear:
    layer = nn.Linear(input_dim, output_dim)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


class TaskConditioning(nn.Module):
    """Appends the one-hot task id to inputs whose first axis is the task.

    Args:
        num_tasks: Number of tasks, the width of the id.
    """

    task_ids: Tensor

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.register_buffer("task_ids", torch.eye(num_tasks)[:, None], persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Joins inputs ``[tasks, batch, dim]`` and the ids to ``[tasks, batch, sum + tasks]``."""
        batch_size = inputs[0].shape[1]
        return torch.cat([*inputs, self.task_ids.expand(-1, batch_size, -1)], dim=2)


class PolicySample(NamedTuple):
    """Actions drawn from the policy."""

    actions: Tensor
    """``[tasks, batch, action]``, inside (-1, 1)."""
    log_probs: Tensor
    """Log-density of each action, in nats, ``[tasks, batch]``."""


class Actor(nn.Module):
    """A tanh-Gaussian policy, one network for all tasks.

    Args:
        num_tasks: Number of tasks.
        observation_dim: Observation features, without the task id.
        action_dim: Action features.
        width: Units of each hidden layer.
        depth: Hidden layers.
        log_std_bounds: Interval to which the log standard deviation is clamped.
    """

    def __init__(
        self,
        num_tasks: int,
        observation_dim: int,
        action_dim: int,
        *,
        width: int,
        depth: int,
        log_std_bounds: tuple[float, float],
    ) -> None:
        super().__init__()
        self.log_std_bounds = log_std_bounds
        self.condition = TaskConditioning(num_tasks)
        self.mlp = MLP(observation_dim + num_tasks, 2 * action_dim, width=width, depth=depth)

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
        return PolicySample(pre_tanh.tanh(), tanh_gaussian_log_prob(pre_tanh, log_std, noise))

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


class TwinCritic(nn.Module):
    """Two independent action-value networks, each shared by all tasks.

    Args:
        num_tasks: Number of tasks.
        observation_dim: Observation features, without the task id.
        action_dim: Action features.
        width: Units of each hidden layer.
        depth: Hidden layers.
        layer_norm: Normalise each hidden layer before its activation.
    """

    def __init__(
        self,
        num_tasks: int,
        observation_dim: int,
        action_dim: int,
        *,
        width: int,
        depth: int,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.condition = TaskConditioning(num_tasks)
        self.mlps = nn.ModuleList(
            MLP(
                observation_dim + action_dim + num_tasks,
                1,
                width=width,
                depth=depth,
                layer_norm=layer_norm,
            )
            for _ in range(2)
        )

    def forward(
        self, observations: Tensor, actions: Tensor, apply: ApplyLayer = apply_layer
    ) -> Tensor:
        """Values of both networks, ``[2, tasks, batch]``."""
        inputs = self.condition(observations, actions)
        return torch.stack([mlp(inputs, apply).squeeze(-1) for mlp in self.mlps])
