"""Per-task gradients of a network, and the questions that balancing methods ask of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

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
    return sample_losses.unflatten(1, (num_minibatches, -1)).mean(2)


class Jacobian(ABC):
    """The Jacobian of all tasks' losses with respect to the shared parameters.

    Each task contributes ``num_minibatches`` rows: row ``u`` is the gradient of the mean loss of the
    task's mini-batch ``u``, and the task's gradient is the mean of its rows. A task whose rows are
    not all finite counts as a task with a zero gradient and is named by :attr:`finite`; it never
    spoils another task's numbers.
    """

    def __init__(self, num_tasks: int, num_minibatches: int) -> None:
        self.num_tasks = num_tasks
        self.num_minibatches = num_minibatches

    @abstractmethod
    def _raw_blocks(self) -> Iterable[Tensor]:
        """One freshly computed tensor ``[tasks, mini-batches, *shape]`` per parameter."""

    @cached_property
    def _blocks_and_norms(self) -> tuple[list[Tensor], Tensor]:
        """The rows parameter by parameter, made finite, and their squared norms before that."""
        blocks, squared_norms = [], []
        # One block at a time, while it is still in the cache.
        for block in map(_flatten_parameter, self._raw_blocks()):
            squared_norms.append(torch.linalg.vector_norm(block, dim=2).square())
            # The weight of a non-finite task is zero, but zero times NaN is NaN.
            blocks.append(block.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0))
        return blocks, torch.stack(squared_norms).sum(0)

    @property
    def _blocks(self) -> list[Tensor]:
        return self._blocks_and_norms[0]

    @cached_property
    def finite(self) -> Tensor:
        """Which tasks have finite gradients, bool ``[tasks]``."""
        return self._blocks_and_norms[1].isfinite().all(1)

    def rows(self) -> Tensor:
        """The Jacobian as one matrix per task, ``[tasks, mini-batches, parameters]``."""
        rows = torch.cat(self._blocks, dim=2)
        return torch.where(self.finite[:, None, None], rows, 0.0)

    def extended_kernel(self) -> Tensor:
        """Inner products of all rows with all rows, ``[tasks * mini-batches] * 2``.

        This is the extended kernel of the NTKMTL paper, Section 3.1.
        """
        flat = [block.flatten(0, 1) for block in self._blocks]
        kernel = torch.stack([block @ block.mT for block in flat]).sum(0)
        finite = self.finite.repeat_interleave(self.num_minibatches)
        return torch.where(finite[:, None] & finite, kernel, 0.0)

    def kernels(self) -> Tensor:
        """Tangent kernel ``K_ii`` of each task, ``[tasks, mini-batches, mini-batches]``."""
        if self.num_minibatches == 1:
            kernels = self._blocks_and_norms[1][:, :, None]
        else:
            kernels = torch.stack([block @ block.mT for block in self._blocks]).sum(0)
        return torch.where(self.finite[:, None, None], kernels, 0.0)

    def gramian(self) -> Tensor:
        """Inner products of the tasks' gradients, ``[tasks, tasks]``."""
        by_task = (self.num_tasks, self.num_minibatches)
        return self.extended_kernel().unflatten(1, by_task).unflatten(0, by_task).mean((1, 3))

    def squared_norms(self) -> Tensor:
        """Squared norm of each task's gradient, ``[tasks]``."""
        return self.kernels().mean((1, 2))

    def combine(self, weights: Tensor) -> list[Tensor]:
        """Gradient of the mean over tasks of the weighted losses.

        Args:
            weights: One weight per task, ``[tasks]``; weights of one give the gradient of the plain
                mean. The weight of a task that is not finite has to be zero.

        Returns:
            One flat gradient per parameter.
        """
        coefficients = weights / (self.num_tasks * self.num_minibatches)
        coefficients = coefficients.repeat_interleave(self.num_minibatches)
        return [coefficients @ block.flatten(0, 1) for block in self._blocks]


class FactoredJacobian(Jacobian):
    """The Jacobian from one backward pass to the outputs of the layers on a tape.

    The rows of all tasks together are one batched matrix product per layer, with the multiplications
    of the ordinary weight gradient.

    Args:
        tape: The tape of the forward pass that led to the losses.
        sample_losses: Loss of every row, ``[tasks, batch]``; row ``b`` of task ``i`` may depend on
            row ``b`` of task ``i`` of the recorded layers only.
        num_minibatches: Rows of the Jacobian per task.
    """

    def __init__(self, tape: Tape, sample_losses: Tensor, num_minibatches: int = 1) -> None:
        super().__init__(sample_losses.shape[0], num_minibatches)
        self._factors = tape.factors
        self._output_gradients = torch.autograd.grad(
            minibatch_losses(sample_losses, num_minibatches).sum(),
            [factor.outputs for factor in tape.factors],
        )

    def _raw_blocks(self) -> Iterator[Tensor]:
        for factor, gradients in zip(self._factors, self._output_gradients, strict=True):
            yield from factor.blocks(gradients, self.num_minibatches)


class SequentialJacobian(Jacobian):
    """The Jacobian from one backward pass per row: the published way, kept as the reference.

    Args:
        parameters: The parameters to differentiate with respect to.
        sample_losses: Loss of every row, ``[tasks, batch]``.
        num_minibatches: Rows of the Jacobian per task.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        sample_losses: Tensor,
        num_minibatches: int = 1,
    ) -> None:
        super().__init__(sample_losses.shape[0], num_minibatches)
        losses = minibatch_losses(sample_losses, num_minibatches).flatten()
        self._gradients = [
            torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses
        ]

    def _raw_blocks(self) -> Iterator[Tensor]:
        by_task = (self.num_tasks, self.num_minibatches)
        for rows in zip(*self._gradients, strict=True):
            yield torch.stack(rows).unflatten(0, by_task)


def _flatten_parameter(block: Tensor) -> Tensor:
    """Views ``[tasks, mini-batches, *shape]`` as ``[tasks, mini-batches, numbers]``."""
    return block.flatten(2)
