"""Gradients of the losses in a shared representation, and the kernels made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from mtrl_ntk.balancing.distributed import average, average_of_squares, is_true_everywhere
from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.forget import forget_tasks
from mtrl_ntk.balancing.graph import nodes
from mtrl_ntk.balancing.loss_graph import LossGraph, at_least_float32, one_hot

Rows = Literal["all", "of_minibatch", "of_task_and_minibatch"]
"""Rows of a representation that a mini-batch loss depends on: any; those at the mini-batch's place,
the same for all tasks; or those at its place among the rows of its task."""


class Representation:
    """How the mini-batch losses depend on the features that the tasks' own layers read.

    Args:
        gradients: ``[tasks, mini-batches, rows, features]``, of the rows that each depends on;
            taken over, and a broken task's are zeroed.
        rows: Which these are.
        across_processes: Whether other processes have rows of the same mini-batches.

    Attributes:
        finite: Which tasks have finite gradients, bool ``[tasks]``.
    """

    def __init__(
        self,
        gradients: Tensor,
        rows: Rows = "of_task_and_minibatch",
        *,
        across_processes: bool = False,
    ) -> None:
        sums = gradients.sum(2)
        # What is not finite shows in the sums as well, which are far fewer.
        finite = is_finite(sums.flatten(1)).all(1)
        self.finite = is_true_everywhere(finite) if across_processes else finite
        for each in (gradients, sums):
            forget_tasks(each, ~self.finite)
        self._gradients, self._sums = gradients, sums
        self._rows, self._across_processes = rows, across_processes

    def kernels(self, *, across_rows: bool) -> Tensor:
        """Kernels ``[tasks, mini-batches, mini-batches]``, of zeros for tasks that are not finite.

        Args:
            across_rows: Sum the features' gradients over a mini-batch's rows first.
        """
        gradients = self._gradients
        if across_rows:
            sums = self._sums
            return row_products(average(sums.clone()) if self._across_processes else sums)
        if self._rows == "all":
            kernels = row_products(gradients.flatten(2))
        else:
            kernels = torch.diag_embed(gradients.square().sum((2, 3)))
        return average_of_squares(kernels) if self._across_processes else kernels

    def combine(self, coefficients: Tensor) -> Tensor:
        """Gradient in the representation of a weighted sum of the losses, ``[rows, features]``.

        Args:
            coefficients: ``[tasks, mini-batches]``.
        """
        gradients, coefficients = self._gradients, coefficients.to(self._gradients.dtype)
        if self._rows == "all":
            combined = coefficients.flatten() @ gradients.flatten(2).flatten(0, 1)
            return combined.view(gradients.shape[2:])
        if self._rows == "of_minibatch":
            return torch.einsum("tn,tnrf->nrf", coefficients, gradients).flatten(0, 1)
        return (coefficients[:, :, None, None] * gradients).flatten(0, 2)


class Place(NamedTuple):
    """Where in the graph a representation, or a part of it, was computed."""

    of: Tensor | GradientEdge
    like: Tensor
    """A tensor of its shape and type."""


class Latest:
    """Where a module's outputs since they were taken last are in the graph, if they are anywhere.

    Of earlier outputs than the last no more than a number is kept, so that their graph is gone as
    soon as nobody else wants it.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._calls: dict[int, tuple[int, Tensor]] = {}
        self._last: Tensor | None = None
        module.register_forward_hook(self._keep)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and files get: no graph."""
        return {"_calls": {}, "_last": None}

    def _keep(self, module: nn.Module, _: object, outputs: object) -> None:
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"{type(module).__name__} returns no tensor: pass the representation to backward"
            )
        if outputs.requires_grad:
            edge, self._last = get_gradient_edge(outputs), outputs
            like = outputs.new_empty(()).expand(outputs.shape)
            self._calls[edge.node._sequence_nr()] = edge.output_nr, like

    def take(self, losses: Sequence[Tensor]) -> list[Place]:
        """The places that losses depend on, in the order of the calls; all are forgotten."""
        calls, self._calls = self._calls, {}
        last, self._last = self._last, None
        if len(calls) < 2:
            return [] if last is None else [Place(last, last.detach())]
        # Passes for other purposes may lie in between.
        known = {node._sequence_nr(): node for node in nodes(losses)}
        return [
            Place(GradientEdge(known[number], output), like)
            for number, (output, like) in calls.items()
            if number in known
        ]


def representation_of(
    graph: LossGraph, places: Sequence[Place], rows: Rows, axes: int
) -> Representation:
    """Differentiates the losses in a representation, each through the heads of its task alone.

    Args:
        graph: Of the losses.
        places: The representation, ``[rows, ...]`` or ``[tasks, rows, ...]``; the rows of several
            parts count as those of one.
        rows: Which rows the loss of a mini-batch depends on.
        axes: Leading axes that count rows.
    """
    num_tasks, num_minibatches = graph.values.shape
    if rows == "all":
        sums = one_hot(range(graph.values.numel()), graph.values)
    elif rows == "of_minibatch":
        sums = one_hot(range(num_tasks), graph.values[:, :1]).expand(-1, -1, num_minibatches)
    else:
        sums = torch.ones(1, num_tasks, num_minibatches)
    gradients = [gradient_in(graph, places, each, axes) for each in sums.split(1)]
    return from_tasks(gradients, graph, rows)


def from_tasks(gradients: Sequence[Tensor], graph: LossGraph, rows: Rows) -> Representation:
    """Puts together the gradients ``[rows, features]`` of the tasks, or of their mini-batches."""
    stacked = torch.stack(list(gradients))
    shape = (*graph.values.shape, -1, stacked.shape[-1])
    return Representation(stacked.reshape(shape), rows, across_processes=True)


def gradient_in(
    graph: LossGraph, places: Sequence[Place], coefficients: Tensor, axes: int
) -> Tensor:
    """Gradient of a weighted sum of losses in all rows of a representation, ``[rows, features]``.

    Args:
        graph: Of the losses.
        places: The representation.
        coefficients: ``[1, tasks, mini-batches]``.
        axes: Leading axes that count rows.
    """
    gradients = graph.rows(coefficients, [place.of for place in places])
    found = [
        torch.zeros_like(place.like) if gradient is None else gradient[0]
        for place, gradient in zip(places, gradients, strict=True)
    ]
    return torch.cat([as_rows(each, axes) for each in found])


def as_rows(gradient: Tensor, axes: int) -> Tensor:
    """``[rows, features]``, in the precision of statistics."""
    return gradient.flatten(0, axes - 1).flatten(1).to(at_least_float32(gradient))


def row_products(rows: Tensor) -> Tensor:
    """Inner products of the rows of each task, ``[tasks, n, n]`` of ``[tasks, n, columns]``."""
    if rows.shape[1] == 1:
        squared_norms: Tensor = torch.linalg.vector_norm(rows, dim=2).square()
        return squared_norms[:, :, None]
    kernels: Tensor = rows @ rows.mT
    return kernels
