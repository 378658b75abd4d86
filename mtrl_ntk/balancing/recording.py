"""Records the layers of an unchanged network, so that one backward pass does for all tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from mtrl_ntk.balancing.factors import Factor, recorded_kind_of
from mtrl_ntk.settings import check_kind


class Call(NamedTuple):
    """One call of a layer."""

    layer: nn.Module
    inputs: Tensor
    version: int
    """That of the inputs at the time, to see whether they were overwritten."""
    outputs: Tensor
    """Without their graph, and perhaps overwritten since: their shape and type are what counts."""
    edge: GradientEdge
    """Where the gradient in the outputs arrives, whatever overwrites them later."""


class Recorded(NamedTuple):
    """A layer whose gradients come from its call."""

    factor: Factor
    edge: GradientEdge


class Recording:
    """What :func:`record` has seen of a forward pass.

    Attributes:
        network: The network.
        kinds: Its layers whose gradients can be taken from their calls, and how.
        calls: Their calls.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        kinds = ((module, recorded_kind_of(module)) for module in network.modules())
        self.kinds = {module: kind for module, kind in kinds if kind is not None}
        self._own = {module: _identities(module) for module in self.kinds}
        self.calls: list[Call] = []
        self._num_calls: Counter[nn.Module] = Counter()

    def keep(
        self,
        layer: nn.Module,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        outputs: Any,  # noqa: ANN401
    ) -> None:
        """Keeps a call; a forward hook."""
        if not isinstance(outputs, Tensor) or not outputs.requires_grad:
            return
        self._num_calls[layer] += 1
        # ``torch.func.functional_call`` puts others in the place of a layer's parameters.
        is_itself = _identities(layer) == self._own[layer]
        if is_itself and not keywords and len(arguments) == 1 and isinstance(arguments[0], Tensor):
            inputs, edge = arguments[0], get_gradient_edge(outputs)
            self.calls.append(Call(layer, inputs, inputs._version, outputs.detach(), edge))

    def layers(self, parameters: Sequence[Tensor], num_tasks: int, num_rows: int) -> list[Recorded]:
        """The layers whose gradients come from their calls; all others are left to autograd.

        These are the layers of known kinds that were called once, whose inputs are still there, and
        whose parameters belong to them alone and are among those that are asked for.

        Args:
            parameters: Whose gradients are wanted.
            num_tasks: Number of tasks.
            num_rows: Rows of each task; layers may see them as ``[tasks, rows, ...]`` or
                ``[tasks * rows, ...]``.
        """
        wanted = {id(parameter) for parameter in parameters}
        uses = Counter(
            id(parameter)
            for module in self.network.modules()
            for parameter in module.parameters(recurse=False)
        )
        found = []
        for call in self.calls:
            trained = [p for p in call.layer.parameters() if p.requires_grad]
            if (
                trained
                and all(id(p) in wanted and uses[id(p)] == 1 for p in trained)
                and self._num_calls[call.layer] == 1
                and call.inputs._version == call.version
                and _has_rows(call.inputs, num_tasks, num_rows)
                and _has_rows(call.outputs, num_tasks, num_rows)
            ):
                kind = self.kinds[call.layer]
                recorded = kind.recorded(call.layer, call.inputs, call.outputs)
                outputs = by_task(call.outputs, num_tasks, num_rows)
                factor = kind(call.layer, by_task(recorded, num_tasks, num_rows), outputs)
                found.append(Recorded(factor, call.edge))
        return found


def _identities(layer: nn.Module) -> list[int]:
    return [id(parameter) for parameter in layer.parameters()]


def _has_rows(values: Tensor, num_tasks: int, num_rows: int) -> bool:
    shape = values.shape
    return shape[:1] == (num_tasks * num_rows,) or shape[:2] == (num_tasks, num_rows)


def by_task(values: Tensor, num_tasks: int, num_rows: int) -> Tensor:
    """``[tasks, rows, ...]`` of values that may be ``[tasks * rows, ...]``."""
    if values.shape[:2] == (num_tasks, num_rows):
        return values
    split: Tensor = values.unflatten(0, (num_tasks, num_rows))
    return split


@contextmanager
def record(network: nn.Module) -> Iterator[Recording]:
    """Records the layers that a network applies within, for :meth:`TaskBalancer.backward`.

    The network stays as it is, and computes what it does without. One backward pass then gives the
    gradients of all tasks in the layers whose kinds are known, wherever these stand, provided that
    a row of a loss depends on that row of the batch only.

    Args:
        network: The network, or a part of it.
    """
    check_kind("network", network, nn.Module, "a module")
    recording = Recording(network)
    handles = [
        layer.register_forward_hook(recording.keep, with_kwargs=True) for layer in recording.kinds
    ]
    try:
        yield recording
    finally:
        for handle in handles:
            handle.remove()
