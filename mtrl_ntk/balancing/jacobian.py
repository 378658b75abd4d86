"""Per-task gradients of a network, and the questions that balancing methods ask of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_ntk.balancing.tape import Tape


def minibatch_losses(sample_losses: Tensor, num_minibatches: int) -> Tensor:
    """Mean loss of every mini-batch.

    Args:
        sample_losses: Loss of every row, ``[tasks, batch]``.
        num_minibatches: Equal parts into which each task's rows are split, in order.

    Returns:
        ``[tasks, num_minibatches]``.

    Raises:
        ValueError: If the batch cannot be split evenly.
    """
    batch_size = sample_losses.shape[1]
    if batch_size % num_minibatches:
        raise ValueError(
            f"{batch_size} rows per task cannot be split into {num_minibatches} equal mini-batches"
        )
    return sample_losses.view(-1, num_minibatches, batch_size // num_minibatches).mean(2)


class Jacobian:
    """The Jacobian of all tasks' losses with respect to the shared parameters.

    Each task contributes a row per mini-batch: row ``u`` is the gradient of the mean loss of the
    task's mini-batch ``u``, and the task's gradient is the mean of its rows. A task whose rows are
    not all finite counts as a task with a zero gradient and is named by :attr:`finite`; it never
    spoils another task's numbers.

    Args:
        rows: The rows, ``[tasks, mini-batches, parameters]``; taken over and made finite in place.

    Attributes:
        num_tasks: Number of tasks.
        num_minibatches: Rows per task.
        finite: Which tasks have finite gradients, bool ``[tasks]``.
    """

    def __init__(self, rows: Tensor) -> None:
        self.num_tasks, self.num_minibatches, _ = rows.shape
        row_squared_norms: Tensor = torch.linalg.vector_norm(rows, dim=2).square()
        self.finite = row_squared_norms.isfinite().all(1)
        self._row_squared_norms = row_squared_norms.masked_fill(~self.finite[:, None], 0.0)
        # The weight of a task that is not finite is zero, but zero times NaN is NaN.
        self._rows = rows.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)

    def rows(self) -> Tensor:
        """The Jacobian as one matrix per task, ``[tasks, mini-batches, parameters]``."""
        return self._rows.masked_fill(~self.finite[:, None, None], 0.0)

    def extended_kernel(self) -> Tensor:
        """Inner products of all rows with all rows, ``[tasks * mini-batches] * 2``.

        This is the extended kernel of the NTKMTL paper, Section 3.1.
        """
        rows = self._rows.flatten(0, 1)
        broken = ~self.finite.repeat_interleave(self.num_minibatches)
        kernel: Tensor = rows @ rows.mT
        return kernel.masked_fill(broken[:, None] | broken, 0.0)

    def kernels(self) -> Tensor:
        """Tangent kernel ``K_ii`` of each task, ``[tasks, mini-batches, mini-batches]``."""
        if self.num_minibatches == 1:
            return self._row_squared_norms[:, :, None]
        kernels = self._rows @ self._rows.mT
        return kernels.masked_fill(~self.finite[:, None, None], 0.0)

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
            All parameters' gradients in one vector, in the order of the rows' columns.
        """
        coefficients = weights / (self.num_tasks * self.num_minibatches)
        return coefficients.repeat_interleave(self.num_minibatches) @ self._rows.flatten(0, 1)


def empty_rows(parameters: Sequence[Tensor], num_tasks: int, num_minibatches: int = 1) -> Tensor:
    """Memory for a Jacobian's rows, ``[tasks, mini-batches, parameters]``.

    A training loop makes it once: at ten tasks and paper scale it is 27 MB for the critic, which
    costs more to ask of the system at every step than to fill.
    """
    num_parameters = sum(parameter.numel() for parameter in parameters)
    return parameters[0].new_empty(num_tasks, num_minibatches, num_parameters)


def factored_jacobian(tape: Tape, sample_losses: Tensor, rows: Tensor) -> Jacobian:
    """The Jacobian from one backward pass, to the outputs of the layers on a tape.

    The rows of all tasks together are one batched matrix product per layer, with as many
    multiplications as the ordinary weight gradient.

    Args:
        tape: The tape of the forward pass that led to the losses.
        sample_losses: Loss of every row of the batch, ``[tasks, batch]``; row ``b`` of task ``i``
            may depend on row ``b`` of task ``i`` of the recorded layers only.
        rows: Memory from :func:`empty_rows`, which also says into how many mini-batches to split.
    """
    output_gradients = torch.autograd.grad(
        minibatch_losses(sample_losses, rows.shape[1]).sum(),
        [factor.outputs for factor in tape.factors],
    )
    sizes = [parameter.numel() for parameter in tape.parameters]
    blocks = iter(rows.flatten(0, 1).split(sizes, dim=1))
    for factor, gradients in zip(tape.factors, output_gradients, strict=True):
        factor.write(gradients, [next(blocks) for _ in factor.parameters])
    return Jacobian(rows)


def sequential_jacobian(tape: Tape, sample_losses: Tensor, rows: Tensor) -> Jacobian:
    """The same from one backward pass per row: the published way, kept as the reference.

    Args:
        tape: Names the parameters; nothing else of it is used.
        sample_losses: Loss of every row of the batch, ``[tasks, batch]``.
        rows: As for :func:`factored_jacobian`.
    """
    losses = minibatch_losses(sample_losses, rows.shape[1])
    for row, loss in zip(rows.flatten(0, 1), losses.flatten(), strict=True):
        gradients = torch.autograd.grad(loss, tape.parameters, retain_graph=True)
        torch.cat([gradient.flatten() for gradient in gradients], out=row)
    return Jacobian(rows)
