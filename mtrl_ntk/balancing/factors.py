"""What a layer's application leaves behind, of which the gradients of its parameters are made.

In a batch laid out ``[tasks, batch, features]`` the gradient of task ``i``'s loss with respect to a
linear layer's weight is ``D_i^T A_i``: ``A`` are the layer's inputs, ``D`` the gradient of the loss
with respect to its outputs. A factor keeps the first and is given the second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from mtrl_ntk.balancing.ensemble import LayerNormEnsemble
from mtrl_ntk.balancing.layers import TaskEmbedding, TaskLayerNorm, TaskLinear

_OPERATIONS_PER_BYTE = 6
_CACHED_BYTES = 2e6


class Factor(ABC):
    """One application of a layer, with all that its parameters' gradients need.

    Args:
        layer: The layer.
        recorded: What :meth:`apply` recorded, of this layer only; axes between the rows and the
            features count as more rows.
        outputs: What the layer returned, or the ensemble that it belongs to.
        member: Which of an ensemble's layers it is; None for a layer by itself.

    Attributes:
        parameters: The layer's trainable parameters, in the order of the blocks that :meth:`write`
            fills.
        outputs: ``[tasks, batch, features]``; of an ensemble ``[members, tasks, batch, features]``.
        member: As given.
    """

    def __init__(
        self,
        layer: nn.Module,
        recorded: Tensor,  # noqa: ARG002 - what it is, kinds of layers know
        outputs: Tensor,
        member: int | None = None,
    ) -> None:
        self.layer: Any = layer
        self.parameters = trainable(layer)
        self.outputs = outputs
        self.member = member

    @classmethod
    def apply(cls, layer: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Applies a layer, or an ensemble of such layers.

        Returns:
            What the parameters' gradients need, with the ensemble's members as its first axis, and
            the outputs.
        """
        outputs: Tensor = layer(inputs)
        return cls.recorded(layer, inputs, outputs), outputs

    @staticmethod
    def recorded(layer: Any, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        """What the parameters' gradients need of a layer's call."""
        return inputs.detach()

    def own(self, output_gradients: Tensor) -> Tensor:
        """This layer's share of gradients with respect to :attr:`outputs`, if there are any."""
        if output_gradients is None:
            return output_gradients
        own = output_gradients if self.member is None else output_gradients[self.member]
        return self._as_rows(own)

    def _as_rows(self, values: Tensor) -> Tensor:
        """``[tasks, batch, features]``, whatever axes there are in between."""
        return values if values.ndim == 3 else values.flatten(1, -2)

    @abstractmethod
    def write(self, output_gradients: Tensor, blocks: Sequence[Tensor]) -> None:
        """Writes the gradients of every part of the batch, which is split in order.

        Args:
            output_gradients: This layer's :meth:`own` gradient, ``[tasks, batch, features]``.
            blocks: For each parameter a matrix ``[parts, entries]``. The parts are the mini-batches
                of all tasks, or the tasks, or one part that is the whole batch.
        """


class KernelFactor(Factor):
    """A factor that also gives inner products of gradients without the gradients themselves."""

    @abstractmethod
    def row_kernels(self, output_gradients: Tensor, other_gradients: Tensor) -> Tensor:
        """Inner products between the parameter gradients of all pairs of rows of the same task.

        Args:
            output_gradients: This layer's :meth:`own` gradient; each row is one gradient.
            other_gradients: Another such gradient, or the same.

        Returns:
            ``[tasks, batch, batch]``.
        """

    @abstractmethod
    def forget_what_is_not_finite(self) -> None:
        """Puts zeros in place of recorded numbers that are not finite."""

    def prefers_kernels(self, num_minibatches: int) -> bool:  # noqa: ARG002
        """Whether inner products cost less this way than from written gradients."""
        return False


class LinearFactor(KernelFactor):
    """An ``nn.Linear`` or a linear layer per task: the weight's gradient is a product."""

    def __init__(
        self, layer: nn.Module, recorded: Tensor, outputs: Tensor, member: int | None = None
    ) -> None:
        super().__init__(layer, recorded, outputs, member)
        self.weight: Tensor = self.layer.weight
        self.inputs = self._as_rows(recorded)
        self._kept_input_products: Tensor | None = None

    @staticmethod
    def recorded(layer: Any, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        """See :meth:`Factor.recorded`: the inputs."""
        # Under autocast the layer has multiplied in a lower precision than that of the inputs.
        return inputs.detach().to(outputs.dtype)

    def write(self, output_gradients: Tensor, blocks: Sequence[Tensor]) -> None:
        """See :meth:`Factor.write`."""
        gradients = split(output_gradients, len(blocks[0]))
        for parameter, block in zip(self.parameters, blocks, strict=True):
            if parameter is self.weight:
                # A scaler's are in single precision once its scale is taken away.
                inputs = split(self.inputs.to(gradients.dtype), len(block))
                _multiply(gradients.mT, inputs, into=block.unflatten(1, self.weight.shape[-2:]))
            else:
                _sum_rows(gradients, into=block)

    def row_kernels(self, output_gradients: Tensor, other_gradients: Tensor) -> Tensor:
        """See :meth:`KernelFactor.row_kernels`.

        A row's gradient is an outer product, so inner products are products of inner products.
        """
        products = torch.bmm(output_gradients, other_gradients.mT)
        return self._input_products() * products.to(self.weight.dtype)

    def _input_products(self) -> Tensor:
        """Inner products of the inputs, with one added for the bias, ``[tasks, batch, batch]``."""
        if self._kept_input_products is None:
            products = torch.bmm(self.inputs, self.inputs.mT).to(self.weight.dtype)
            if not self.weight.requires_grad:
                products.zero_()
            has_bias = self.parameters[-1] is not self.weight
            self._kept_input_products = products.add_(1.0) if has_bias else products
        return self._kept_input_products

    def forget_what_is_not_finite(self) -> None:
        """See :meth:`KernelFactor.forget_what_is_not_finite`."""
        self.inputs = self.inputs.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    def prefers_kernels(self, num_minibatches: int) -> bool:
        """Weighs multiplications against memory traffic.

        Inner products of rows take ``2 b^2 (in + out)`` operations a task more than the gradient
        itself; written gradients are ``n in out`` numbers a task that are written, measured and
        summed. The processors that this was measured on do six operations while a byte moves,
        unless all the numbers fit in a core's own cache.
        """
        (output_dim, input_dim), batch_size = self.weight.shape[-2:], self.inputs.shape[1]
        operations = 2 * batch_size**2 * (input_dim + output_dim)
        written_bytes = num_minibatches * input_dim * output_dim * self.weight.element_size()
        is_cached = len(self.inputs) * written_bytes < _CACHED_BYTES
        return not is_cached and operations < _OPERATIONS_PER_BYTE * 3 * written_bytes


class LayerNormFactor(KernelFactor):
    """Layer normalisation: gain and bias gradients are sums over rows."""

    def __init__(
        self, layer: nn.Module, recorded: Tensor, outputs: Tensor, member: int | None = None
    ) -> None:
        super().__init__(layer, recorded, outputs, member)
        self.normalized = self._as_rows(recorded)

    @classmethod
    def apply(
        cls, layer: nn.LayerNorm | TaskLayerNorm | LayerNormEnsemble, inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Factor.apply`; records what gains are applied to."""
        gain, bias = layer.weight, layer.bias
        if not isinstance(layer, nn.LayerNorm):
            # A gain per task is [tasks, features].
            gain, bias = gain.unsqueeze(-2), bias.unsqueeze(-2)
        normalized = _normalized(layer, inputs)
        if bias is None:
            return normalized.detach(), normalized * gain
        return normalized.detach(), torch.addcmul(bias, normalized, gain)

    @staticmethod
    def recorded(layer: Any, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        """See :meth:`Factor.recorded`: what gains are applied to, which is computed again."""
        return _normalized(layer, inputs.detach())

    def _as_rows(self, values: Tensor) -> Tensor:
        """See :meth:`Factor._as_rows`; all normalised axes are features."""
        return super()._as_rows(values.flatten(-len(self.layer.normalized_shape)))

    def write(self, output_gradients: Tensor, blocks: Sequence[Tensor]) -> None:
        """See :meth:`Factor.write`."""
        for parameter, block in zip(self.parameters, blocks, strict=True):
            is_gain = parameter is self.layer.weight
            gradients = output_gradients * self.normalized if is_gain else output_gradients
            _sum_rows(split(gradients, len(block)), into=block)

    def row_kernels(self, output_gradients: Tensor, other_gradients: Tensor) -> Tensor:
        """See :meth:`KernelFactor.row_kernels`."""
        gains = output_gradients * self.normalized, other_gradients * self.normalized
        if len(self.parameters) > 1:
            products = torch.bmm(gains[0], gains[1].mT)
            return torch.baddbmm(products, output_gradients, other_gradients.mT)
        if self.parameters[0] is self.layer.weight:
            return torch.bmm(gains[0], gains[1].mT)
        return torch.bmm(output_gradients, other_gradients.mT)

    def forget_what_is_not_finite(self) -> None:
        """See :meth:`KernelFactor.forget_what_is_not_finite`."""
        self.normalized = self.normalized.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


class EmbeddingFactor(Factor):
    """A vector per task: its gradient is a sum over rows."""

    @staticmethod
    def recorded(layer: Any, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        """See :meth:`Factor.recorded`; nothing is needed, so that the outputs do for it."""
        return outputs.detach()

    def write(self, output_gradients: Tensor, blocks: Sequence[Tensor]) -> None:
        """See :meth:`Factor.write`."""
        _sum_rows(split(output_gradients, len(blocks[0])), into=blocks[0])


class RecomputedFactor(Factor):
    """Any layer that maps each row by itself: each part of the batch goes through it once more.

    That costs another forward pass of the layer, but none of the network. Layers that draw random
    numbers, or change with every call, are none of these.
    """

    def __init__(
        self, layer: nn.Module, recorded: Tensor, outputs: Tensor, member: int | None = None
    ) -> None:
        super().__init__(layer, recorded, outputs, member)
        self.parameters = tuple(p for p in layer.parameters() if p.requires_grad)
        # Under autocast layers before have returned less precise ones.
        precision = self.parameters[0].dtype
        self.inputs = recorded.to(precision) if recorded.is_floating_point() else recorded

    def _as_rows(self, values: Tensor) -> Tensor:
        return values

    def write(self, output_gradients: Tensor, blocks: Sequence[Tensor]) -> None:
        """See :meth:`Factor.write`."""
        num_parts = len(blocks[0])
        inputs = self.inputs.flatten(0, 1).chunk(num_parts)
        gradients = output_gradients.flatten(0, 1).chunk(num_parts)
        for part, (rows, gradient) in enumerate(zip(inputs, gradients, strict=True)):
            with torch.enable_grad():
                # Not called, as hooks have been.
                outputs = type(self.layer).forward(self.layer, rows)
            found = torch.autograd.grad(outputs, self.parameters, gradient.to(outputs.dtype))
            for block, parameter_gradient in zip(blocks, found, strict=True):
                block[part].copy_(parameter_gradient.flatten())


def _normalized(layer: nn.LayerNorm | TaskLayerNorm | LayerNormEnsemble, inputs: Tensor) -> Tensor:
    inputs, shape = inputs.to(layer.weight.dtype), layer.normalized_shape
    # With a gain and a bias that change nothing, as without them the CPU goes number by number.
    gain, bias = inputs.new_ones(shape), inputs.new_zeros(shape)
    return functional.layer_norm(inputs, shape, gain, bias, layer.eps)


def _sum_rows(parts: Tensor, into: Tensor) -> None:
    """Sums ``[parts, rows, features]`` over rows."""
    if torch.compiler.is_compiling():
        into.copy_(parts.sum(1, dtype=into.dtype))
    else:
        torch.sum(parts, 1, dtype=into.dtype, out=into)


def _multiply(left: Tensor, right: Tensor, into: Tensor) -> None:
    if torch.compiler.is_compiling() or left.dtype != into.dtype:
        # Compilers have no rule for an ``out`` that is a view, and avoid the copy by themselves.
        into.copy_(torch.bmm(left, right))
    else:
        torch.bmm(left, right, out=into)


def split(rows: Tensor, num_parts: int) -> Tensor:
    """Splits ``[tasks, batch, features]`` into ``[parts, rows, features]``."""
    return rows.reshape(num_parts, -1, rows.shape[2])


def trainable(layer: Any) -> tuple[nn.Parameter, ...]:  # noqa: ANN401
    """A layer's trainable weight and bias, without the walk of ``layer.parameters()``."""
    found = (getattr(layer, "weight", None), getattr(layer, "bias", None))
    return tuple(each for each in found if each is not None and each.requires_grad)


_KINDS: dict[Any, type[Factor]] = {
    nn.Linear.forward: LinearFactor,
    TaskLinear.forward: LinearFactor,
    nn.LayerNorm.forward: LayerNormFactor,
    TaskLayerNorm.forward: LayerNormFactor,
    TaskEmbedding.forward: EmbeddingFactor,
}
"""Kinds of factors by what their layers compute, as a subclass may compute something else."""


_RECORDED: dict[Any, type[Factor]] = {
    nn.Linear.forward: LinearFactor,
    nn.LayerNorm.forward: LayerNormFactor,
    **{
        cls.forward: RecomputedFactor
        for cls in (
            nn.Conv1d,
            nn.Conv2d,
            nn.Conv3d,
            nn.ConvTranspose1d,
            nn.ConvTranspose2d,
            nn.ConvTranspose3d,
            nn.Embedding,
            nn.GroupNorm,
            nn.PReLU,
            nn.RMSNorm,
        )
    },
}
"""Kinds of factors that recordings make of what all tasks share."""


def register_layer(layer: type[nn.Module], kind: type[Factor] = RecomputedFactor) -> None:
    """Lets recordings take the gradients of a kind of layer from its calls.

    Args:
        layer: Class of layers that map one tensor to one, each row by itself.
        kind: How gradients come from a call.
    """
    if nn.Module not in getattr(layer, "__mro__", ()):
        raise ValueError(f"the layer is {layer!r}; it must be a class of modules")
    if Factor not in getattr(kind, "__mro__", ()):
        raise ValueError(f"the kind is {kind!r}; it must be a subclass of Factor")
    _RECORDED[layer.forward] = kind


def recorded_kind_of(layer: nn.Module) -> type[Factor] | None:
    """The kind of factor of an unchanged layer's call; None where it takes autograd."""
    kind = _RECORDED.get(type(layer).forward)
    if kind is None or parametrize.is_parametrized(layer) or _is_changed(layer):
        return None
    if any(parameter.is_complex() for parameter in layer.parameters()):
        return None
    # An embedding whose gradients are sparse, or depend on how often all rows name an entry.
    if getattr(layer, "sparse", False) or getattr(layer, "scale_grad_by_freq", False):
        return None
    return None if issubclass(kind, KernelFactor) and not is_plain(layer) else kind


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes what its class does, of a weight and a bias that are parameters."""
    return (
        "weight" in layer._parameters
        and layer._parameters.keys() <= {"weight", "bias"}
        and not _is_changed(layer)
    )


def _is_changed(layer: nn.Module) -> bool:
    changed = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    return bool(changed)


def kind_of(layer: nn.Module) -> type[Factor] | None:
    """The kind of factor that a layer leaves behind; None for a layer with nothing to train.

    Raises:
        TypeError: If the gradients of this kind of layer are not known.
    """
    kind = _KINDS.get(type(layer).forward)
    if kind is not None and is_plain(layer):
        return kind if trainable(layer) else None
    if not any(parameter.requires_grad for parameter in layer.parameters()):
        return None
    changed = " with hooks or other parameters" if kind else ""
    raise TypeError(
        f"a tape cannot record {layer}{changed}: it knows nn.Linear, nn.LayerNorm, and the layers "
        "of mtrl_ntk.balancing.layers, as they are; TaskBalancer balances any network"
    )


def parameters_of(factors: Sequence[Factor]) -> list[nn.Parameter]:
    """The parameters of recorded layers, in the order of the layers' calls."""
    return [parameter for factor in factors for parameter in factor.parameters]


def output_gradients(
    total: Tensor,
    factors: Sequence[Factor],
    *,
    also: Sequence[Tensor] = (),
    retain_graph: bool = False,
    allow_unused: bool = False,
) -> list[Tensor]:
    """Each layer's own gradient of a number with respect to what the layer returned.

    Args:
        total: The number.
        factors: The layers.
        also: Tensors of which the whole gradients follow those of the layers.
        retain_graph: As for ``torch.autograd.grad``.
        allow_unused: As for ``torch.autograd.grad``.

    Returns:
        ``[tasks, batch, features]`` for each layer; None for unused ones, where these are allowed.
    """
    # The layers of an ensemble have their outputs in common.
    outputs = {id(factor.outputs): factor.outputs for factor in factors}
    gradients = torch.autograd.grad(
        total, [*outputs.values(), *also], retain_graph=retain_graph, allow_unused=allow_unused
    )
    by_outputs = dict(zip(outputs, gradients, strict=False))
    found = [factor.own(by_outputs[id(factor.outputs)]) for factor in factors]
    return [*found, *gradients[len(outputs) :]]


def coarsest(types: Sequence[torch.dtype]) -> torch.dtype:
    """The type with the fewest digits; float64 if there are none."""
    return max((torch.float64, *types), key=lambda dtype: torch.finfo(dtype).eps)
