"""Networks of one shape applied as one: a layer of all of them is one batched product.

Activations have the network as their first axis, ``[members, tasks, batch, features]``. Parameters
stay those of the members: an ensemble is a way to apply layers, and owns none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_ntk.balancing.layers import TaskEmbedding, TaskLayerNorm, TaskLinear
from mtrl_ntk.balancing.memory import are_in_a_row, lay_in_a_row


class Ensemble(nn.Module):
    """The same layer of several networks.

    Args:
        members: The layer of each network, all of one kind and shape.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        # In a tuple, where modules do not look for submodules: the layers belong to their networks.
        self.members = tuple(members)

    def stacked(self, name: str) -> Tensor:
        """A parameter of all members, ``[members, ...]``."""
        return stacked([getattr(member, name) for member in self.members])


class LinearEnsemble(Ensemble):
    """Members are linear layers with a bias, for all tasks or one per task."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[members, tasks, batch, input_dim]`` to ``[..., output_dim]``."""
        weight, bias = self.stacked("weight").flatten(0, -3), self.stacked("bias").flatten(0, -2)
        rows = inputs.reshape(len(weight), -1, inputs.shape[-1])
        outputs = torch.baddbmm(bias[:, None], rows, weight.mT)
        return outputs.view(*inputs.shape[:-1], -1)


class LayerNormEnsemble(Ensemble):
    """Members are layer normalisations over the last axis, for all tasks or one per task."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__(members)
        self.normalized_shape: Any = members[0].normalized_shape
        self.eps: Any = members[0].eps

    @property
    def weight(self) -> Tensor:
        """Gains, ``[members, tasks or 1, features]``."""
        return self._by_task("weight")

    @property
    def bias(self) -> Tensor:
        """Biases, ``[members, tasks or 1, features]``."""
        return self._by_task("bias")

    def _by_task(self, name: str) -> Tensor:
        parameter = self.stacked(name)
        return parameter.view(len(parameter), -1, parameter.shape[-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalises ``[members, tasks, batch, features]``."""
        normalized = functional.layer_norm(inputs, self.normalized_shape, eps=self.eps)
        return torch.addcmul(self.bias[:, :, None], normalized, self.weight[:, :, None])


class EmbeddingEnsemble(Ensemble):
    """Members are vectors per task."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns ``[members, tasks, batch, dim]`` for inputs ``[members, tasks, batch, ...]``."""
        return self.stacked("weight")[:, :, None].expand(-1, -1, inputs.shape[2], -1)


_ENSEMBLES: dict[type[nn.Module], type[Ensemble]] = {
    nn.Linear: LinearEnsemble,
    TaskLinear: LinearEnsemble,
    nn.LayerNorm: LayerNormEnsemble,
    TaskLayerNorm: LayerNormEnsemble,
    TaskEmbedding: EmbeddingEnsemble,
}


def together(layers: Sequence[nn.Module]) -> nn.Module:
    """Makes one layer of the same layer of several networks.

    Args:
        layers: The layer of each network; one without parameters, such as an activation, stands
            for all of them.

    Raises:
        TypeError: If there is no ensemble of this kind of layer.
    """
    first = layers[0]
    if next(first.parameters(), None) is None:
        return first
    if type(first) not in _ENSEMBLES or getattr(first, "bias", first) is None:
        raise TypeError(f"there is no ensemble of {first}")
    return _ENSEMBLES[type(first)](layers)


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Does what ``torch.stack`` does, without the copy of tensors that lie side by side."""
    # Compilers make the copy part of what reads it, and follow no tensor beyond its own memory.
    if torch.compiler.is_compiling() or not are_in_a_row(tensors):
        return torch.stack(tuple(tensors))
    joined: Tensor = _Joined.apply(*tensors)  # type: ignore[no-untyped-call]
    return joined


def lay_side_by_side(networks: Iterable[nn.Module]) -> None:
    """Moves each parameter of networks of one shape next to the same one of the others.

    The parameters stay the objects that they are, but their memory is new.
    """
    for parameters in zip(*(network.parameters() for network in networks), strict=True):
        lay_in_a_row(parameters)


class _Joined(torch.autograd.Function):
    """Tensors that lie side by side, seen as one; its gradient goes to each of them."""

    @staticmethod
    def forward(_: Any, *tensors: Tensor) -> Tensor:  # noqa: ANN401 - a context of autograd
        first = tensors[0].detach()
        shape, strides = (len(tensors), *first.shape), (first.numel(), *first.stride())
        return first.as_strided(shape, strides)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        return gradient.unbind(0)
