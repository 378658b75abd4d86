"""Per-task gradients of a network, and the questions that balancing methods ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtrl_ntk.balancing.factors import (
    Factor,
    KernelFactor,
    output_gradients,
    parameters_of,
)
from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.forget import forget_tasks
from mtrl_ntk.balancing.ghost import Ghost
from mtrl_ntk.balancing.kernels import inner_products, output_kernels
from mtrl_ntk.balancing.loss_graph import at_least_float32
from mtrl_ntk.balancing.losses import minibatch_losses
from mtrl_ntk.balancing.representation import Representation, row_products
from mtrl_ntk.balancing.tape import Tape
from mtrl_ntk.settings import Settings, number

KernelSource = Literal["loss", "output", "representation"]
"""Of what a task's tangent kernel is made: see :class:`~mtrl_ntk.balancing.Weighting`."""
Path = Literal["auto", "direct", "ghost"]
"""How inner products are taken: by cost, from written gradients, or from the layers' factors."""


@dataclass(frozen=True)
class Request(Settings):
    """What a balancing method wants to ask of a Jacobian.

    Attributes:
        num_minibatches: Rows per task.
        needs_rows: Whether it asks for more than the tasks' kernels.
        kernel_source: The kernels it asks for besides those of the losses.
        needs_kernels: Whether it asks for kernels, and not for the combined gradient alone.
        keep_graph: Whether autograd's graph is needed afterwards.
    """

    num_minibatches: int = number(1, at_least=1)
    needs_rows: bool = True
    kernel_source: KernelSource = "loss"
    needs_kernels: bool = True
    keep_graph: bool = False

    def __post_init__(self) -> None:
        """Raises a ValueError that names the first bad value."""
        if not torch.compiler.is_compiling():
            super().__post_init__()


_PLAIN = Request()


class Workspace:
    """Memory for the rows of a network's Jacobians, asked of the system once.

    At ten tasks and paper scale it is 27 MB for the critic, which costs more to ask of the system
    at every step than to fill.
    """

    def __init__(self) -> None:
        self._rows: Tensor | None = None

    def rows(self, like: Tensor, *shape: int) -> Tensor:
        """Memory of a shape, with the type and device of a tensor; the same as long as they are."""
        kept = self._rows
        if kept is None or (kept.shape, kept.dtype, kept.device) != (
            shape,
            like.dtype,
            like.device,
        ):
            self._rows = kept = like.new_empty(shape)
        return kept

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return 0 if self._rows is None else self._rows.nbytes


class Jacobian:
    """The Jacobian of all tasks' losses with respect to the shared parameters.

    Each task contributes a row per mini-batch: row ``u`` is the gradient of the mean loss of the
    task's mini-batch ``u``, and the task's gradient is the mean of its rows. A task whose gradients
    are not all finite counts as a task with a zero gradient and is named by :attr:`finite`; it
    never spoils another task's numbers.

    Args:
        rows: The rows, ``[tasks, mini-batches, parameters]`` without the columns of the ghosts;
            taken over; a broken task's are zeroed in place.
        columns: The order of all columns: a number of columns of the rows, or a ghost.
        own_gradients: Gradient of each task's task-specific parameters, ``[tasks, entries]``; taken
            over and made finite in place.
        output_kernels: Kernels of the outputs, if they were asked for.
        representation: Gradients in the features that the tasks' own layers read, if they were
            asked for.

    Attributes:
        num_tasks: Number of tasks.
        num_minibatches: Rows per task.
        finite: Which tasks have finite gradients, bool ``[tasks]``.
    """

    def __init__(
        self,
        rows: Tensor,
        columns: Sequence[int | Ghost] | None = None,
        *,
        own_gradients: Tensor | None = None,
        output_kernels: Tensor | None = None,
        representation: Representation | None = None,
    ) -> None:
        self.num_tasks, self.num_minibatches, num_columns = rows.shape
        self._columns = [num_columns] if columns is None else list(columns)
        self._ghosts = [column for column in self._columns if isinstance(column, Ghost)]
        kernels = row_products(rows)
        for ghost in self._ghosts:
            kernels = kernels + ghost.kernels(self.num_minibatches)
        self.finite = is_finite(kernels.flatten(1)).all(1)
        if own_gradients is None:
            own_gradients = rows.new_empty(self.num_tasks, 0)
        if output_kernels is not None:
            self.finite = self.finite & is_finite(output_kernels.flatten(1)).all(1)
        if representation is not None:
            self.finite = self.finite & representation.finite
        if own_gradients.numel():
            # As the kernels are of the shared ones: their norms have to be finite.
            self.finite = self.finite & is_finite(own_gradients.square().sum(1))
        broken = ~self.finite
        self._broken = broken
        self._kernels = kernels.masked_fill(broken[:, None, None], 0.0)
        # The weight of a task that is not finite is zero, but zero times NaN is NaN.
        forget_tasks(rows, broken)
        self._rows = rows
        for ghost in self._ghosts:
            ghost.factor.forget_what_is_not_finite()
        if own_gradients.numel():
            own_gradients.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0).mul_(self.finite[:, None])
        self._own_gradients = own_gradients
        self._output_kernels = output_kernels
        self._representation = representation

    def rows(self) -> Tensor:
        """The Jacobian as a matrix per task, ``[tasks, mini-batches, parameters]``; not a copy."""
        if not self._ghosts:
            return self._rows
        written = iter(self._rows.split([c for c in self._columns if isinstance(c, int)], dim=2))
        return torch.cat([self._column_rows(column, written) for column in self._columns], dim=2)

    def gradients(self) -> Tensor:
        """Each task's gradient, the mean of its rows, ``[tasks, parameters]``."""
        rows = self.rows()
        return rows[:, 0] if self.num_minibatches == 1 else rows.mean(1)

    def _column_rows(self, column: int | Ghost, written: Iterator[Tensor]) -> Tensor:
        if isinstance(column, int):
            return next(written)
        return column.rows(self.num_minibatches).masked_fill(self._broken[:, None, None], 0.0)

    def extended_kernel(self) -> Tensor:
        """Inner products of all rows with all rows, ``[tasks * mini-batches] * 2``.

        This is the extended kernel of the NTKMTL paper, Section 3.1.
        """
        rows = self.rows().flatten(0, 1)
        return inner_products(rows, rows.dtype)

    def kernels(self) -> Tensor:
        """Tangent kernel ``K_ii`` of each task, ``[tasks, mini-batches, mini-batches]``."""
        return self._kernels

    def output_kernels(self) -> Tensor:
        """Tangent kernel of each task's outputs, ``[tasks, outputs * batch, outputs * batch]``.

        Raises:
            ValueError: If they were not asked for when the Jacobian was made.
        """
        if self._output_kernels is None:
            raise ValueError("the outputs' kernels were not asked for, or the outputs not given")
        return self._output_kernels.masked_fill(self._broken[:, None, None], 0.0)

    def representation_kernels(self, *, across_rows: bool = True) -> Tensor:
        """Kernels of the shared representation, ``[tasks, mini-batches, mini-batches]``.

        The NTKMTL paper's Eq. 17: inner products of the mini-batch losses' gradients with respect
        to the features that the tasks' own layers read.

        Args:
            across_rows: Sum the features' gradients over a mini-batch first, as the equation has
                it; otherwise the features of different rows are different coordinates, so that the
                kernel is diagonal, as in the published code.

        Raises:
            ValueError: If they were not asked for, or the network has no layers of the tasks' own.
        """
        if self._representation is None:
            raise ValueError("the representation's gradients were not asked for")
        kernels = self._representation.kernels(across_rows=across_rows)
        return kernels.masked_fill(self._broken[:, None, None], 0.0)

    def own_gradients(self) -> Tensor:
        """Gradient of each task's loss in its own parameters, ``[tasks, entries]``."""
        return self._own_gradients

    def gramian(self) -> Tensor:
        """Inner products of the tasks' gradients, ``[tasks, tasks]``."""
        by_task = (self.num_tasks, self.num_minibatches)
        kernel: Tensor = self.extended_kernel().unflatten(1, by_task).unflatten(0, by_task)
        return kernel.mean((1, 3))

    def squared_norms(self) -> Tensor:
        """Squared norm of each task's gradient, ``[tasks]``."""
        return self.kernels().mean((1, 2))

    def combine(self, weights: Tensor) -> Tensor:
        """Gradient of the mean over tasks of the weighted losses.

        Args:
            weights: One weight per task, ``[tasks]``; weights of one give the gradient of the plain
                mean. The weight of a task that is not finite has to be zero.

        Returns:
            All shared parameters' gradients in one vector, in the order of the columns.
        """
        coefficients = weights / (self.num_tasks * self.num_minibatches)
        return self.combine_rows(coefficients[:, None].expand(-1, self.num_minibatches))

    def combine_rows(self, coefficients: Tensor) -> Tensor:
        """Weighted sum of all rows, ``[parameters]``.

        Args:
            coefficients: ``[tasks, mini-batches]``.
        """
        combined = coefficients.flatten() @ self._rows.flatten(0, 1)
        if not self._ghosts:
            return combined
        written = iter(combined.split([c for c in self._columns if isinstance(c, int)]))
        sizes = [c if isinstance(c, int) else c.num_columns for c in self._columns]
        together = combined.new_empty(sum(sizes))
        for column, part in zip(self._columns, together.split(sizes), strict=True):
            if isinstance(column, int):
                part.copy_(next(written))
            else:
                column.combine(coefficients, part)
        return together


def factored_jacobian(
    tape: Tape,
    sample_losses: Tensor,
    request: Request = _PLAIN,
    workspace: Workspace | None = None,
    outputs: Tensor | None = None,
    path: Path = "auto",
) -> Jacobian:
    """The Jacobian from one backward pass, to the outputs of the layers on a tape.

    The rows of all tasks together are one batched matrix product per layer, with as many
    multiplications as the ordinary weight gradient. Where only kernels are wanted, layers whose
    rows would cost more than the inner products that are made of them stay unwritten.

    Args:
        tape: The tape of the forward pass that led to the losses.
        sample_losses: Loss of every row of the batch, ``[tasks, batch]``; row ``b`` of task ``i``
            may depend on row ``b`` of task ``i`` of the recorded layers only.
        request: What will be asked.
        workspace: Memory for the rows; new memory when left out.
        outputs: The network's outputs ``[tasks, batch, outputs]``, where their kernels are asked.
        path: How inner products of rows are taken.

    Raises:
        ValueError: If inputs or outputs of a layer on the tape were overwritten.
    """
    tape.check_records()
    num_minibatches = request.num_minibatches
    kernels = None
    if request.kernel_source == "output" and outputs is not None:
        kernels = output_kernels(tape.shared, outputs)
    losses = minibatch_losses(sample_losses, len(sample_losses), num_minibatches)
    read = tape.representations if request.kernel_source == "representation" else []
    gradients = output_gradients(
        losses.sum(), tape.factors, also=read, retain_graph=request.keep_graph
    )
    shared = list(zip(tape.shared, gradients, strict=False))
    own = list(zip(tape.task_specific, gradients[len(shared) :], strict=False))
    columns = [
        Ghost(factor, gradient) if stays_unwritten(factor, request, path) else num_entries(factor)
        for factor, gradient in shared
    ]
    written = [
        pair for pair, column in zip(shared, columns, strict=True) if isinstance(column, int)
    ]
    num_columns = sum(num_entries(factor) for factor, _ in written)
    like = sample_losses.new_empty(0, dtype=at_least_float32(sample_losses))
    rows = (workspace or Workspace()).rows(like, len(losses), num_minibatches, num_columns)
    _write(written, rows.flatten(0, 1))
    own_gradients = like.new_empty(len(losses), _num_own_entries(tape))
    _write(own, own_gradients, len(losses))
    return Jacobian(
        rows,
        columns,
        own_gradients=own_gradients.div_(num_minibatches) if num_minibatches > 1 else own_gradients,
        output_kernels=kernels,
        representation=_representation(gradients[len(tape.factors) :], request),
    )


def stays_unwritten(factor: KernelFactor, request: Request, path: Path = "auto") -> bool:
    """Whether a layer's gradients are never written down."""
    if path == "auto":
        return not request.needs_rows and factor.prefers_kernels(request.num_minibatches)
    return path == "ghost"


def num_entries(factor: Factor) -> int:
    """Number of entries of a layer's parameters."""
    return sum(parameter.numel() for parameter in factor.parameters)


def _num_own_entries(tape: Tape) -> int:
    """Number of entries that belong to each task."""
    return sum(p[0].numel() for p in parameters_of(tape.task_specific))


def _write(pairs: Sequence[tuple[Factor, Tensor]], rows: Tensor, num_copies: int = 1) -> None:
    """Fills ``[parts, columns]`` with the gradients of layers.

    Args:
        pairs: The layers, each with the gradient with respect to its outputs.
        rows: What to fill.
        num_copies: Copies of each layer, of which a row of the matrix holds one.
    """
    sizes = [p.numel() // num_copies for factor, _ in pairs for p in factor.parameters]
    blocks = iter(rows.split(sizes, dim=1))
    for factor, gradient in pairs:
        factor.write(gradient, [next(blocks) for _ in factor.parameters])


def _representation(gradients: Sequence[Tensor], request: Request) -> Representation | None:
    """Gradients in what the tasks' own layers read, ``[tasks, batch, features]`` or of members."""
    if request.kernel_source != "representation":
        return None
    if not gradients:
        raise ValueError("the network has no layers of the tasks' own that read a representation")
    # The features of an ensemble's members lie side by side.
    parts = [part for each in gradients for part in (each if each.ndim > 3 else each[None])]
    together = torch.cat(parts, dim=2)
    # Layers in bf16 read features in bf16; kernels are statistics.
    together = together.to(at_least_float32(together))
    return Representation(together.unflatten(1, (request.num_minibatches, -1)))


def sequential_jacobian(
    tape: Tape,
    sample_losses: Tensor,
    request: Request = _PLAIN,
    workspace: Workspace | None = None,
    outputs: Tensor | None = None,  # noqa: ARG001 - it knows the losses' kernels only
) -> Jacobian:
    """The same from one backward pass per row: the published way, kept as the reference.

    Args:
        tape: Names the parameters; nothing else of it is used.
        sample_losses: Loss of every row of the batch, ``[tasks, batch]``.
        request: As for :func:`factored_jacobian`.
        workspace: As for :func:`factored_jacobian`.
        outputs: Not used: kernels of the losses are all that it knows.
    """
    losses = minibatch_losses(sample_losses, len(sample_losses), request.num_minibatches)
    shared, own = parameters_of(tape.shared), parameters_of(tape.task_specific)
    shape = (*losses.shape, sum(parameter.numel() for parameter in shared))
    like = sample_losses.new_empty(0, dtype=at_least_float32(sample_losses))
    rows = (workspace or Workspace()).rows(like, *shape)
    own_gradients = like.new_zeros(len(losses), _num_own_entries(tape))
    for task, task_losses in enumerate(losses):
        for row, loss in zip(rows[task], task_losses, strict=True):
            gradients = torch.autograd.grad(loss, [*shared, *own], retain_graph=True)
            flat = [gradient.flatten() for gradient in gradients[: len(shared)]]
            row.copy_(torch.cat(flat) if flat else row)
            own_parts = [gradient[task].flatten() for gradient in gradients[len(shared) :]]
            if own_parts:
                own_gradients[task] += torch.cat(own_parts) / len(task_losses)
    return Jacobian(rows, own_gradients=own_gradients)


class MeanGradient(Jacobian):
    """What is left of a Jacobian where only the combined gradient is ever taken, in one pass.

    Its kernels are NaN: they are not known.

    Args:
        losses: Losses of the mini-batches, ``[tasks, mini-batches]``; tasks with others than finite
            ones take no part.
        combine: Gradient of a weighted sum of them, given ``[tasks, mini-batches]`` coefficients.
        representation: As for :class:`Jacobian`.
    """

    def __init__(
        self,
        losses: Tensor,
        combine: Callable[[Tensor], Tensor],
        representation: Representation | None = None,
    ) -> None:
        losses = losses.detach()
        super().__init__(losses.new_empty(*losses.shape, 0), representation=representation)
        self.finite = self.finite & is_finite(losses).all(1)
        self._broken = ~self.finite
        self._combine = combine

    def rows(self) -> Tensor:
        """Raises an error: there are none."""
        raise ValueError("this method asked for no gradients of the tasks, so there are none")

    def kernels(self) -> Tensor:
        """NaN, ``[tasks, 1, 1]``."""
        return torch.full_like(self._kernels[:, :1, :1], torch.nan)

    def combine_rows(self, coefficients: Tensor) -> Tensor:
        """See the base class."""
        return self._combine(coefficients)
