"""Gradients of the tasks' losses in any parameters, by autograd alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtrl_ntk.balancing.distributed import is_true_anywhere
from mtrl_ntk.balancing.factors import coarsest
from mtrl_ntk.balancing.graph import nodes, readers
from mtrl_ntk.balancing.losses import TaskLosses, minibatch_losses
from mtrl_ntk.balancing.parameters import hooks_resting

ROWS_AT_ONCE = 16
"""Losses that a batched backward pass differentiates: that many times its memory, less Python."""
_LARGEST_BATCH = 8e6
"""Bytes of a batch's gradients above which processors take longer for it than one by one."""
_DEARER_BATCHED = ("Convolution", "ScaledDotProduct", "Checkpoint")
"""Operations whose batched gradients take longer than the same one by one."""


class LossGraph:
    """The graph from parameters to the losses of mini-batches, and backward passes through it.

    Where the tasks' losses are a sequence, or were stacked from one, each task has a root of its
    own: a pass for one task then leaves the other tasks' heads alone, and so do numbers of theirs
    that are not finite.

    Args:
        losses: As :func:`minibatch_losses` takes them.
        num_tasks: Number of tasks.
        num_minibatches: Parts into which each task's rows are split.
        scaler: By whose scale losses are multiplied while they are differentiated.

    Attributes:
        values: Losses of the mini-batches without their graph, ``[tasks, mini-batches]``.
        tensors: The losses as tensors with their graph.
        num_rows: Rows of every task, if losses were given row by row, and as many for each task.
        scale: The scaler's, if there is one.
    """

    def __init__(
        self,
        losses: TaskLosses,
        num_tasks: int,
        num_minibatches: int,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.values = minibatch_losses(losses, num_tasks, num_minibatches).detach()
        self.tensors = [losses] if isinstance(losses, Tensor) else list(losses)
        axis = 1 if isinstance(losses, Tensor) else 0
        sizes = {loss.shape[axis:].numel() for loss in self.tensors if loss.ndim > axis}
        self.num_rows = sizes.pop() if len(sizes) == 1 else 0
        self._roots = _roots(losses)
        # One root takes less time than many.
        self._all = _root_of_all(losses) if isinstance(losses, Tensor) else None
        self.scale = None
        if scaler is not None:
            self.scale = scaler.scale(torch.ones((), device=self.values.device))

    def rows(
        self, coefficients: Tensor, tensors: Sequence[Any], *, batched: bool = False
    ) -> list[Tensor | None]:
        """Gradients of weighted sums of the losses in tensors, or edges, on the way to them.

        Tasks whose coefficients are zero are left out of the pass, as zero times NaN is NaN. To
        look at coefficients on a device means to wait for it.

        Args:
            coefficients: ``[sums, tasks, mini-batches]``.
            tensors: The tensors.
            batched: Differentiate all sums in one pass by ``vmap``; otherwise there can be one.

        Returns:
            ``[sums, *shape]`` for each tensor; None where no loss reaches it.
        """
        counting = coefficients.any(2).any(0).tolist()
        roots = [self._all] if all(counting) and self._all is not None else self._roots
        roots = [root for root in roots if any(counting[root.tasks])]
        if not roots:
            return [None] * len(tensors)
        coefficients = coefficients.to(self.values)
        gradients = [root.gradients(coefficients[:, root.tasks]) for root in roots]
        return self.backward([root.of for root in roots], gradients, tensors, batched=batched)

    def combine(self, coefficients: Tensor, tensors: Sequence[Any]) -> list[Tensor | None]:
        """Gradients ``[*shape]`` of a sum of losses weighted by ``[tasks, mini-batches]``."""
        if not tensors:
            return []
        found = self.rows(coefficients[None], tensors)
        return [None if each is None else each[0] for each in found]

    def read_by_task(
        self, tensor: Tensor | GradientEdge, parameters: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor | None]] | None:
        """Gradients of each task's losses in a tensor that all read, by one pass for all tasks.

        What the first operations of a task's heads make of the tensor's gradient is seen before it
        is added to that of the other tasks.

        Args:
            tensor: What the tasks' heads read.
            parameters: Leaves whose gradients of all losses together come along.

        Returns:
            The gradients in the tensor, of each task's sum of mini-batch losses, ``[*shape]``, and
            those in the parameters, ``[*shape]``; None if one pass cannot tell the tasks apart, or
            if some losses are not finite.
        """
        by_root = [readers(root.node, tensor) for root in self._roots]
        found = [node for each in by_root for node, _ in each]
        apart = len(self._roots) == len(self.values) and len(set(found)) == len(found)
        if not apart or not all(by_root) or not bool(self.values.isfinite().all()):
            return None
        seen: list[list[Tensor]] = [[] for _ in by_root]
        handles = [
            node.register_hook(_keeper(seen[task], index))
            for task, each in enumerate(by_root)
            for node, index in each
        ]
        try:
            gradients = self.combine(torch.ones_like(self.values), [tensor, *parameters])
        finally:
            for handle in handles:
                handle.remove()
        if not all(seen):
            return None
        sums = [self._in_true_scale(sum(each[1:], each[0])) for each in seen]
        return sums, gradients[1:]

    def backward(
        self,
        outputs: Sequence[Any],
        gradients: Sequence[Tensor],
        inputs: Sequence[Any],
        *,
        batched: bool = False,
    ) -> list[Tensor | None]:
        """Gradients in inputs, ``[sums, *shape]``, given those in outputs ``[sums, *shape]``.

        Both are tensors or edges of the graph.
        """
        scaled = [g if self.scale is None else g * self.scale.to(g.dtype) for g in gradients]
        with hooks_resting([each for each in inputs if isinstance(each, Tensor)]):
            found: Sequence[Tensor | None] = torch.autograd.grad(
                outputs,
                inputs,
                scaled if batched else [gradient[0] for gradient in scaled],
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=batched,
            )
        return [
            None if g is None else self._in_true_scale(g if batched else g[None]) for g in found
        ]

    def _in_true_scale(self, gradient: Tensor) -> Tensor:
        # As precise as statistics are: what was scaled may have no place in a smaller type.
        if self.scale is None:
            return gradient
        return gradient.to(at_least_float32(gradient)) / self.scale

    def precision(self) -> torch.dtype:
        """The coarsest in which anything on the way to the losses was computed."""
        types = {each.dtype for node in nodes(self.tensors) for each in node._input_metadata}
        return coarsest([dtype for dtype in types if dtype.is_floating_point])

    def rows_at_once(self, parameters: Sequence[Tensor], wanted: int | None) -> int:
        """How many losses a pass should take: what is wanted, or 16.

        It is 1 where operations have no rule for batched gradients; and, unless more are wanted,
        where that is slow: with convolutions and attention, and, on a CPU, gradients that fill its
        caches.
        """
        names = {type(node).__name__ for node in nodes(self.tensors)}
        is_dear = any(word in name for name in names for word in _DEARER_BATCHED)
        if self.values.device.type == "cpu":
            batch = ROWS_AT_ONCE * sum(parameter.nbytes for parameter in parameters)
            is_dear = is_dear or batch > _LARGEST_BATCH
        if wanted == 1 or (wanted is None and is_dear):
            return 1
        with warnings.catch_warnings():
            warnings.simplefilter("error" if wanted is None else "ignore")
            try:
                self.rows(one_hot(range(1), self.values), parameters, batched=True)
            except (RuntimeError, UserWarning):
                return 1
        return wanted or ROWS_AT_ONCE


class Columns:
    """Parameters whose gradients lie side by side in the rows of a matrix.

    Complex numbers are two entries each; sparse gradients are written out.

    Args:
        parameters: The parameters.

    Attributes:
        parameters: As given.
        num_entries: Entries of all of them.
        used: Which of them a gradient was found for.
        dtype: Precision of statistics: the parameters', but float32 at least.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self._sizes = [_entries(parameter).numel() for parameter in parameters]
        self.num_entries = sum(self._sizes)
        self.used = [False] * len(self.parameters)
        self.dtype = at_least_float32(*map(_entries, parameters))

    def vector(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Gradients ``[1, *shape]`` as one vector ``[entries]``, with zeros where one is None."""
        self._note(gradients)
        parts = [
            torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
        ]
        return torch.cat([_entries(part).reshape(-1) for part in parts]).to(self.dtype)

    def fill(self, rows: Tensor, gradients: Sequence[Tensor | None]) -> None:
        """Writes gradients ``[rows, *shape]`` into ``[rows, entries]``, zeros where one is None."""
        self._note(gradients)
        pairs = zip(rows.split(self._sizes, dim=1), gradients, strict=True)
        found = [(block, each) for block, each in pairs if each is not None]
        if len(found) < len(gradients):
            rows.zero_()
        if found:
            blocks = [block for block, _ in found]
            torch._foreach_copy_(blocks, [_entries(g).reshape(len(rows), -1) for _, g in found])

    def _note(self, gradients: Sequence[Tensor | None]) -> None:
        for index, gradient in enumerate(gradients):
            self.used[index] |= gradient is not None

    def without(self, parameters: Sequence[Tensor]) -> Columns:
        """The columns of all but some parameters."""
        left_out = {id(parameter) for parameter in parameters}
        return Columns([each for each in self.parameters if id(each) not in left_out])

    def blocks(self, rows: Tensor) -> dict[int, Tensor]:
        """The columns of each parameter, by its identity, of ``[rows, entries]``."""
        identities = map(id, self.parameters)
        return dict(zip(identities, rows.split(self._sizes, dim=1), strict=True))

    def split(self, combined: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The parameters that were used anywhere, each with its part of ``[entries]``."""
        used = is_true_anywhere(self.used, combined.device)
        parts = zip(self.parameters, self.parts(combined), used, strict=True)
        return [(parameter, part) for parameter, part, was_used in parts if was_used]

    def parts(self, combined: Tensor) -> list[Tensor]:
        """``[entries]`` in the shapes of the parameters."""
        return [
            torch.view_as_complex(part.view(*parameter.shape, 2))
            if parameter.is_complex()
            else part.view_as(parameter)
            for parameter, part in zip(self.parameters, combined.split(self._sizes), strict=True)
        ]


def _entries(values: Tensor) -> Tensor:
    dense = values if values.layout == torch.strided else values.to_dense()
    return torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense


def write_rows(graph: LossGraph, columns: Columns, rows: Tensor, rows_at_once: int) -> None:
    """Fills ``[tasks, mini-batches, entries]`` with the gradient of every loss.

    In a batched pass a gradient that is not finite spoils those of other tasks, as zero times NaN
    is NaN; then all are taken again, one by one.

    Args:
        graph: Of the losses.
        columns: The parameters.
        rows: What to fill.
        rows_at_once: Losses that one backward pass differentiates.
    """
    flat = rows.flatten(0, 1)
    for start in range(0, len(flat), rows_at_once):
        part = range(start, min(start + rows_at_once, len(flat)))
        sums = one_hot(part, graph.values)
        gradients = graph.rows(sums, columns.parameters, batched=rows_at_once > 1)
        columns.fill(flat[start : part.stop], gradients)
    if rows_at_once > 1 and not flat.norm().isfinite():
        write_rows(graph, columns, rows, 1)


def combine(graph: LossGraph, columns: Columns, coefficients: Tensor) -> Tensor:
    """Gradient of a weighted sum of the losses, by one backward pass, ``[entries]``.

    Args:
        graph: Of the losses.
        columns: The parameters.
        coefficients: ``[tasks, mini-batches]``.
    """
    return columns.vector(graph.rows(coefficients[None], columns.parameters))


def one_hot(indices: range, values: Tensor) -> Tensor:
    """Coefficients that choose one loss each, of those in ``[tasks, mini-batches]`` in order.

    On the CPU, where to look at them is not to wait.
    """
    chosen = torch.zeros(len(indices), values.numel(), dtype=values.dtype)
    chosen[range(len(indices)), list(indices)] = 1.0
    return chosen.view(-1, *values.shape)


class _Root(NamedTuple):
    """Where the backward pass of some tasks' losses begins."""

    of: Tensor | GradientEdge
    tasks: slice
    shape: torch.Size
    """Shape of what it is."""

    @property
    def node(self) -> Any:  # noqa: ANN401
        """Its node in the graph."""
        return self.of.grad_fn if isinstance(self.of, Tensor) else self.of.node

    def gradients(self, coefficients: Tensor) -> Tensor:
        """What it is given for ``[sums, tasks, mini-batches]`` coefficients, ``[sums, *shape]``."""
        num_sums, num_tasks, num_minibatches = coefficients.shape
        num_rows = self.shape.numel() // num_tasks // num_minibatches
        by_row = (coefficients / num_rows).repeat_interleave(num_rows, 2)
        return by_row.reshape(num_sums, *self.shape)


def _root_of_all(losses: Tensor) -> _Root:
    return _Root(losses, slice(0, len(losses)), losses.shape)


def _keeper(kept: list[Tensor], index: int) -> Callable[[Any, Any], None]:
    def keep(gradients: Sequence[Tensor | None], _: object) -> None:
        gradient = gradients[index]
        if gradient is not None:
            kept.append(gradient)

    return keep


def _roots(losses: TaskLosses) -> list[_Root]:
    if not isinstance(losses, Tensor):
        return [
            _Root(loss, slice(task, task + 1), loss.shape)
            for task, loss in enumerate(losses)
            if loss.requires_grad
        ]
    node = losses.grad_fn
    if node is None or node.name() != "StackBackward0" or node._saved_dim != 0:  # type: ignore[attr-defined]
        return [_root_of_all(losses)]
    return [
        _Root(GradientEdge(function, place), slice(task, task + 1), losses.shape[1:])
        for task, (function, place) in enumerate(node.next_functions)
        if function is not None
    ]


def at_least_float32(*tensors: Tensor) -> torch.dtype:
    """The precision that holds all of some tensors' numbers, and no less than float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
