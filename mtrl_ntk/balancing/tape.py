"""Records, layer by layer, what the parameter gradients of a network are made of.

In a batch laid out ``[tasks, batch, features]`` the gradient of task ``i``'s loss with respect to a
linear layer's weight is ``D_i^T A_i``: ``A`` are the layer's inputs, ``D`` the gradient of the loss
with respect to its outputs. A network that calls its layers through a :class:`Tape` leaves behind
one such factor per layer, so that one backward pass, to the outputs only, gives the gradients of
all tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

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
        parameters: The layer's parameters, in the order of the blocks that :meth:`write` fills.
        outputs: What the layer returned, ``[tasks, batch, features]``.
    """

    parameters: tuple[nn.Parameter, ...]
    outputs: Tensor

    @abstractmethod
    def write(self, output_gradients: Tensor, blocks: Sequence[Tensor]) -> None:
        """Writes the gradients of every mini-batch, where a batch is split in order.

        Args:
            output_gradients: Gradient with respect to :attr:`outputs`, of the same shape.
            blocks: For each parameter a matrix ``[tasks * mini-batches, parameter.numel()]``.
        """


class LinearFactor(Factor):
    """An ``nn.Linear``: the weight's gradient is a product, the bias's a sum over rows."""

    def __init__(self, layer: nn.Linear, inputs: Tensor) -> None:
        self.parameters = tuple(layer.parameters())
        self.inputs = inputs.detach()
        self.outputs = layer(inputs)

    def write(self, output_gradients: Tensor, blocks: Sequence[Tensor]) -> None:
        """See :meth:`Factor.write`."""
        weight, *bias = blocks
        inputs = _split(self.inputs, len(weight))
        gradients = _split(output_gradients, len(weight))
        torch.bmm(gradients.mT, inputs, out=weight.unflatten(1, self.parameters[0].shape))
        if bias:
            torch.sum(gradients, 1, out=bias[0])


class LayerNormFactor(Factor):
    """An ``nn.LayerNorm`` over the last axis: gain and bias gradients are sums over rows."""

    def __init__(self, layer: nn.LayerNorm, inputs: Tensor) -> None:
        self.parameters = tuple(layer.parameters())
        normalized = functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
        self.normalized = normalized.detach()
        self.outputs = torch.addcmul(layer.bias, normalized, layer.weight)

    def write(self, output_gradients: Tensor, blocks: Sequence[Tensor]) -> None:
        """See :meth:`Factor.write`."""
        gain, bias = blocks
        torch.sum(_split(output_gradients * self.normalized, len(gain)), 1, out=gain)
        torch.sum(_split(output_gradients, len(bias)), 1, out=bias)


def _split(rows: Tensor, num_parts: int) -> Tensor:
    """Splits ``[tasks, batch, features]`` into ``[parts, rows, features]``."""
    return rows.reshape(num_parts, -1, rows.shape[2])


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
