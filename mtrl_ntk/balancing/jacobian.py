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
        blocks: The rows parameter by parameter, ``[tasks, mini-batches, numbers]`` each.

    Attributes:
        num_tasks: Number of tasks.
        num_minibatches: Rows per task.
        finite: Which tasks have finite gradients, bool ``[tasks]``.
    """

    def __init__(self, blocks: Sequence[Tensor]) -> None:
        rows = torch.cat(list(blocks), dim=2)
        self.num_tasks, self.num_minibatches, _ = rows.shape
        row_squared_norms = torch.linalg.vector_norm(rows, dim=2).square()
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
            All parameters' gradients in one vector, in the order of the blocks.
        """
        coefficients = weights / (self.num_tasks * self.num_minibatches)
        return coefficients.repeat_interleave(self.num_minibatches) @ self._rows.flatten(0, 1)


def factored_jacobian(tape: Tape, sample_losses: Tensor, num_minibatches: int = 1) -> Jacobian:
    """The Jacobian from one backward pass, to the outputs of the layers on a tape.

    The rows of all tasks together are one batched matrix product per layer, with as many
    multiplications as the ordinary weight gradient.

    Args:
        tape: The tape of the forward pass that led to the losses.
        sample_losses: Loss of every row, ``[tasks, batch]``; row ``b`` of task ``i`` may depend on
            row ``b`` of task ``i`` of the recorded layers only.
        num_minibatches: Rows of the Jacobian per task.
    """
    output_gradients = torch.autograd.grad(
        minibatch_losses(sample_losses, num_minibatches).sum(),
        [factor.outputs for factor in tape.factors],
    )
    return Jacobian(
        [
            block
            for factor, gradients in zip(tape.factors, output_gradients, strict=True)
            for block in factor.blocks(gradients, num_minibatches)
        ]
    )


def sequential_jacobian(tape: Tape, sample_losses: Tensor, num_minibatches: int = 1) -> Jacobian:
    """The same from one backward pass per row: the published way, kept as the reference.

    Args:
        tape: Names the parameters; nothing else of it is used.
        sample_losses: Loss of every row, ``[tasks, batch]``.
        num_minibatches: Rows of the Jacobian per task.
    """
    losses = minibatch_losses(sample_losses, num_minibatches)
    rows = [
        torch.autograd.grad(loss, tape.parameters, retain_graph=True) for loss in losses.flatten()
    ]
    return Jacobian(
        [torch.stack(block).view(*losses.shape, -1) for block in zip(*rows, strict=True)]
    )
