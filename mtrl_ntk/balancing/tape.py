"""Records, layer by layer, what the parameter gradients of a network are made of.

In a batch laid out ``[tasks, batch, features]`` the gradient of task ``i``'s loss with respect to a
linear layer's weight is ``D_i^T A_i``: ``A`` are the layer's inputs, ``D`` the gradient of the loss
with respect to its outputs. A network that calls its layers through a :class:`Tape` leaves behind
one such factor per layer, so that one backward pass, to the outputs only, gives the gradients of
all tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

ApplyLayer = Callable[[nn.Module, Tensor], Tensor]
"""Applies a layer to its inputs; networks take one, so that a tape can replace the plain call."""


def apply_layer(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Applies ``layer`` without recording anything."""
    outputs: Tensor = layer(inputs)
    return outputs


class Factor(ABC):
    """One application of a layer, with all that its parameters' gradients need.

    Attributes:
        parameters: The layer's parameters, in the order of :meth:`blocks`.
        outputs: What the layer returned, ``[tasks, batch, features]``.
    """

    parameters: tuple[nn.Parameter, ...]
    outputs: Tensor

    @abstractmethod
    def blocks(self, output_gradients: Tensor, num_minibatches: int) -> tuple[Tensor, ...]:
        """Gradients of every mini-batch, one block per parameter.

        Args:
            output_gradients: Gradient with respect to :attr:`outputs`, of the same shape.
            num_minibatches: Equal parts into which each task's rows are split, in order.

        Returns:
            For each parameter a tensor ``[tasks, num_minibatches, parameter.numel()]``.
        """


class LinearFactor(Factor):
    """An ``nn.Linear``: the weight's gradient is a product, the bias's a sum over rows."""

    def __init__(self, layer: nn.Linear, inputs: Tensor) -> None:
        self.parameters = tuple(layer.parameters())
        self.inputs = inputs.detach()
        self.outputs = layer(inputs)

    def blocks(self, output_gradients: Tensor, num_minibatches: int) -> tuple[Tensor, ...]:
        """See :meth:`Factor.blocks`."""
        shape = (self.inputs.shape[0], num_minibatches, -1)
        inputs = _split(self.inputs, num_minibatches)
        gradients = _split(output_gradients, num_minibatches)
        weight = torch.bmm(gradients.mT, inputs).view(shape)
        if len(self.parameters) == 1:
            return (weight,)
        return weight, gradients.sum(1).view(shape)


class LayerNormFactor(Factor):
    """An ``nn.LayerNorm`` over the last axis: gain and bias gradients are sums over rows."""

    def __init__(self, layer: nn.LayerNorm, inputs: Tensor) -> None:
        self.parameters = tuple(layer.parameters())
        normalized = functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
        self.normalized = normalized.detach()
        self.outputs = torch.addcmul(layer.bias, normalized, layer.weight)

    def blocks(self, output_gradients: Tensor, num_minibatches: int) -> tuple[Tensor, ...]:
        """See :meth:`Factor.blocks`."""
        shape = (self.normalized.shape[0], num_minibatches, -1)
        gain = _split(output_gradients * self.normalized, num_minibatches).sum(1).view(shape)
        return gain, _split(output_gradients, num_minibatches).sum(1).view(shape)


def _split(rows: Tensor, num_minibatches: int) -> Tensor:
    """Splits ``[tasks, batch, features]`` into ``[tasks * mini-batches, rows, features]``."""
    num_tasks, batch_size, features = rows.shape
    return rows.reshape(num_tasks * num_minibatches, batch_size // num_minibatches, features)


def _factor(layer: nn.Module, inputs: Tensor) -> Factor:
    if isinstance(layer, nn.Linear):
        return LinearFactor(layer, inputs)
    if isinstance(layer, nn.LayerNorm) and layer.bias is not None:
        return LayerNormFactor(layer, inputs)
    raise TypeError(f"a tape cannot record {layer}: it knows nn.Linear and nn.LayerNorm with bias")


class Tape:
    """Applies layers to ``[tasks, batch, features]`` and keeps one :class:`Factor` of each call.

    Layers without parameters, such as activations, pass through unrecorded. A tape serves one
    forward pass; each layer may appear on it once.
    """

    def __init__(self) -> None:
        self.factors: list[Factor] = []

    def __call__(self, layer: nn.Module, inputs: Tensor) -> Tensor:
        """Applies ``layer`` to ``inputs [tasks, batch, features]`` and records the call.

        Raises:
            TypeError: If the tape does not know this kind of layer.
        """
        if next(layer.parameters(), None) is None:
            return apply_layer(layer, inputs)
        factor = _factor(layer, inputs)
        self.factors.append(factor)
        return factor.outputs

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters recorded so far, in the order of the layers' calls."""
        return [parameter for factor in self.factors for parameter in factor.parameters]
