"""Layers whose per-task gradients are never written down."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mtrl_ntk.balancing.factors import KernelFactor
from mtrl_ntk.balancing.kernels import block_sums


class Ghost(NamedTuple):
    """A layer whose gradients are never written: questions are answered from its factors."""

    factor: KernelFactor
    output_gradients: Tensor
    """Gradient of the mini-batch losses with respect to the layer's outputs."""

    @property
    def sizes(self) -> list[int]:
        """Entries of each of the layer's parameters."""
        return [parameter.numel() for parameter in self.factor.parameters]

    @property
    def num_columns(self) -> int:
        """Number of the layer's parameters."""
        return sum(self.sizes)

    def kernels(self, num_minibatches: int) -> Tensor:
        """The layer's share of each task's kernel, ``[tasks, mini-batches, mini-batches]``."""
        row_kernels = self.factor.row_kernels(self.output_gradients, self.output_gradients)
        return block_sums(row_kernels, num_minibatches)

    def rows(self, num_minibatches: int) -> Tensor:
        """The layer's columns of the Jacobian, ``[tasks, mini-batches, columns]``."""
        gradients = self.output_gradients
        parts = self._new_empty(len(gradients) * num_minibatches)
        self.factor.write(gradients, parts.split(self.sizes, dim=1))
        rows: Tensor = parts.unflatten(0, (-1, num_minibatches))
        return rows

    def combine(self, coefficients: Tensor, into: Tensor) -> None:
        """Writes the weighted sum over all rows of the batch.

        Args:
            coefficients: Factor on the rows of each task, ``[tasks]``, or of each of its
                mini-batches, ``[tasks, mini-batches]``; zero for broken tasks.
            into: What to fill, ``[columns]``.
        """
        gradients = self.output_gradients
        by_minibatch = coefficients.view(len(gradients), -1, 1, 1)
        parts = gradients.unflatten(1, (by_minibatch.shape[1], -1))
        # Zero times NaN is NaN.
        weighted = (parts * by_minibatch).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        weighted = weighted.flatten(1, 2).to(gradients.dtype)
        self.factor.write(weighted, into[None].split(self.sizes, dim=1))

    def _new_empty(self, num_rows: int) -> Tensor:
        """Memory for rows of the layer's columns, in the precision of its parameters."""
        return self.factor.parameters[0].new_empty(num_rows, self.num_columns)
