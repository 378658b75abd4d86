"""Jacobians of any losses by autograd alone, as much of them as a method asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.check import check_gradients, spread_signs
from mtrl_ntk.balancing.distributed import average
from mtrl_ntk.balancing.jacobian import Jacobian, MeanGradient, Request, Workspace
from mtrl_ntk.balancing.loss_graph import (
    Columns,
    LossGraph,
    combine,
    one_hot,
    write_rows,
)
from mtrl_ntk.balancing.recorded_jacobian import RecordedLayers
from mtrl_ntk.balancing.recording import Recording
from mtrl_ntk.balancing.representation import (
    Latest,
    Place,
    Representation,
    Rows,
    as_rows,
    from_tasks,
    gradient_in,
    representation_of,
)


class Differentiated(NamedTuple):
    """What came of the losses' derivatives."""

    jacobian: Jacobian
    columns: Columns
    """The parameters in the order of the Jacobian's columns."""
    own_gradients: list[Tensor | None] | None = None
    """Gradients of the sum of all mini-batch losses in the tasks' own parameters, if they came
    along."""


class AutogradJacobians:
    """Differentiates losses as far as a method asks: not at all, in a representation, or in full.

    Args:
        rows_at_once: Losses that one backward pass differentiates at most; None for what is
            cheaper.
        representation: Module whose outputs are the shared representation.
    """

    def __init__(self, rows_at_once: int | None, representation: nn.Module | None) -> None:
        self._rows_at_once, self._rows_at_once_tried = rows_at_once, False
        self._named = None if representation is None else Latest(representation)
        self._layout: tuple[Rows, int] | None = None
        self._workspace = Workspace()

    @property
    def nbytes(self) -> int:
        """Memory that is kept, in bytes."""
        return self._workspace.nbytes

    def make(
        self,
        graph: LossGraph,
        columns: Columns,
        request: Request,
        representation: Tensor | None = None,
        recording: Recording | None = None,
        own: Sequence[Tensor] = (),
        *,
        check: bool = False,
    ) -> Differentiated:
        """Makes the Jacobian of the losses with respect to parameters.

        Args:
            graph: Of the losses.
            columns: The parameters.
            request: What will be asked.
            representation: The shared representation, if no module was named.
            recording: Of the layers that led to the losses, ``[tasks, rows]``.
            own: Parameters of the tasks' own, whose gradients may come along.
            check: Compare with autograd what comes from a recording or through a representation.

        Raises:
            ValueError: If there is no representation and one is needed, or if the losses depend on
                the parameters beside it.
        """
        kept = None
        places = [] if self._named is None else self._named.take(graph.tensors)
        if representation is not None:
            places = [Place(representation, representation.detach())]
        if request.kernel_source == "output":
            raise ValueError("kernels of the outputs need a tape: see Balancer")
        if request.kernel_source == "representation":
            layout = self._layout_of(graph, places, check=check)
            kept = _Through(graph, columns, places, layout, own)
            if check:
                kept.check()
        if request.needs_rows or (kept is None and request.needs_kernels):
            known = None if kept is None else kept.representation
            return self._whole(graph, columns, request, recording, known, check=check)
        losses = average(graph.values.clone())
        if kept is not None:
            jacobian = MeanGradient(losses, kept.combine, kept.representation)
            return Differentiated(jacobian, columns, kept.own_gradients)

        def one_pass(coefficients: Tensor) -> Tensor:
            return average(combine(graph, columns, coefficients))

        return Differentiated(MeanGradient(losses, one_pass), columns)

    def _whole(
        self,
        graph: LossGraph,
        columns: Columns,
        request: Request,
        recording: Recording | None,
        representation: Representation | None,
        *,
        check: bool,
    ) -> Differentiated:
        """The Jacobian of all rows."""
        if recording is None:
            rows = self._rows(graph, columns)
            return Differentiated(Jacobian(rows, representation=representation), columns)
        layers = RecordedLayers(recording, graph, columns)
        found, order = layers.jacobian(request, self._workspace, self._fill, representation)
        if check:

            def everywhere(coefficients: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
                wanted = Columns(parameters)
                return wanted.parts(average(combine(graph, wanted, coefficients)))

            check_gradients(
                recording.network, everywhere, found, order.parameters, graph.precision()
            )
        return Differentiated(found, order)

    def _rows(self, graph: LossGraph, columns: Columns) -> Tensor:
        like = graph.values.new_empty(0, dtype=columns.dtype)
        rows = self._workspace.rows(like, *graph.values.shape, columns.num_entries)
        self._fill(graph, columns, rows)
        return average(rows)

    def _fill(self, graph: LossGraph, columns: Columns, rows: Tensor) -> None:
        if not self._rows_at_once_tried:
            self._rows_at_once = graph.rows_at_once(columns.parameters, self._rows_at_once)
            self._rows_at_once_tried = True
        write_rows(graph, columns, rows, self._rows_at_once or 1)

    def _layout_of(
        self, graph: LossGraph, places: Sequence[Place], *, check: bool
    ) -> tuple[Rows, int]:
        if not places or any(isinstance(p.of, Tensor) and not p.of.requires_grad for p in places):
            raise ValueError(
                "the method asks for gradients in a shared representation: name the module that "
                "makes it, TaskBalancer(..., representation=network.trunk), or pass the tensor, "
                "backward(losses, representation=z); it has to be trained"
            )
        if not all(place.like.is_floating_point() for place in places):
            raise ValueError("the representation is complex; name one of real numbers")
        if self._layout is None or check:
            self._layout = layout_of(graph, places)
        return self._layout


class _Through:
    """Gradients in a representation, from which one pass leads on to the parameters."""

    def __init__(
        self,
        graph: LossGraph,
        columns: Columns,
        places: Sequence[Place],
        layout: tuple[Rows, int],
        own: Sequence[Tensor],
    ) -> None:
        self._graph, self._columns, self._places = graph, columns, places
        rows, self._axes = layout
        self.own_gradients: list[Tensor | None] | None = None
        read = None
        if len(places) == 1 and (rows == "of_minibatch" or graph.values.shape[1] == 1):
            read = graph.read_by_task(places[0].of, own)
        if read is None:
            self.representation = representation_of(graph, places, *layout)
        else:
            by_task, self.own_gradients = read
            gradients = [as_rows(each, self._axes) for each in by_task]
            self.representation = from_tasks(gradients, graph, rows)

    def combine(self, coefficients: Tensor) -> Tensor:
        """Gradient of a weighted sum of the losses in the parameters, ``[entries]``."""
        combined = self.representation.combine(coefficients)
        sizes = [place.like.shape[: self._axes].numel() for place in self._places]
        gradients = [
            part.view(place.like.shape).to(place.like.dtype)[None]
            for place, part in zip(self._places, combined.split(sizes), strict=True)
        ]
        outputs = [place.of for place in self._places]
        found = self._graph.backward(outputs, gradients, self._columns.parameters)
        return average(self._columns.vector(found))

    def check(self) -> None:
        """Raises an error if the losses depend on the parameters beside the representation."""
        if not bool(self.representation.finite.all()):
            return
        coefficients = spread_signs(self._graph.values)
        through = self.combine(coefficients)
        whole = average(combine(self._graph, self._columns, coefficients))
        # What overflows, as a scaler's first steps do, tells nothing.
        is_finite = bool((through.norm() + whole.norm()).isfinite())
        if is_finite and not _are_close(through, whole, self._graph.precision()):
            raise ValueError(
                "the losses depend on the shared parameters beside the representation that was "
                "named, or on shared ones behind it: name another, or those as own"
            )


def layout_of(graph: LossGraph, places: Sequence[Place]) -> tuple[Rows, int]:
    """Which rows of a representation the losses depend on, and how many of its axes count rows.

    Losses of rows may depend on the same row of the representation only, so that one pass per task,
    or one for all, gives the gradients of all mini-batches. Whether they do is tried on them.
    """
    num_tasks, first = len(graph.values), places[0].like
    if first.ndim > 2 and first.shape[:2] == (num_tasks, graph.num_rows):
        candidates: list[tuple[Rows, int]] = [("of_task_and_minibatch", 2), ("all", 2)]
    elif first.shape[0] == graph.num_rows:
        candidates = [("of_minibatch", 1), ("all", 1)]
    else:
        return "all", 2 if _rows_are_of_tasks(graph, places[0]) else 1
    return candidates[0 if _agrees(graph, places, candidates[0]) else 1]


def _agrees(graph: LossGraph, places: Sequence[Place], layout: tuple[Rows, int]) -> bool:
    """Whether gradients in a representation are those of autograd, if taken in a certain way."""
    if len(places) > 1:
        return False
    coefficients = spread_signs(graph.values)
    found = representation_of(graph, places, *layout).combine(coefficients)
    expected = gradient_in(graph, places, coefficients[None], layout[1])
    return _are_close(found, expected, graph.precision())


def _rows_are_of_tasks(graph: LossGraph, place: Place) -> bool:
    """Whether the first axis of a representation is that of the tasks."""
    num_tasks, num_minibatches = graph.values.shape
    if place.like.ndim < 3 or len(place.like) != num_tasks:
        return False
    for task, one in enumerate(one_hot(range(num_tasks), graph.values[:, :1])):
        sums = one.expand(-1, num_minibatches)[None]
        others = gradient_in(graph, [place], sums, 1).index_fill(
            0, torch.tensor([task], device=place.like.device), 0.0
        )
        if others.any():
            return False
    return True


def _are_close(found: Tensor, expected: Tensor, precision: torch.dtype) -> bool:
    tolerance = 4 * torch.finfo(precision).eps ** 0.5
    return bool((found - expected).norm() <= tolerance * expected.norm())
