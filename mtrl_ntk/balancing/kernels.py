"""Tangent kernels of outputs, and spectra, computed without leaving the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_ntk.balancing.factors import KernelFactor, output_gradients

_SQUARINGS = 10
_LARGEST_SQUARED = 32
_POWER_STEPS = 32
_CACHED_COLUMNS = 2**16


def largest_eigenvalues(kernels: Tensor) -> Tensor:
    """Largest eigenvalue of each positive semi-definite kernel.

    One row gives the entry itself. Kernels of a few rows are raised to the power ``2 ** 10`` by
    squaring, with the trace divided out each time; what remains projects onto the leading
    eigenvector. The result is never too large but for rounding. It is too small, by 3e-4 of itself
    for two rows, 1e-3 for eight and 2e-3 for 32 at worst, where other eigenvalues are a thousandth
    below the largest; where none is within two hundredths, rounding is all that is left. Squaring
    the kernel of every row of a batch would cost more than the update: large kernels get 32 steps
    of the power method, and miss a share that falls with the 64th power of the ratio of the two
    largest eigenvalues. Where many eigenvalues crowd at the top, which they do not in kernels of
    networks, it can be several per cent. Unlike ``torch.linalg.eigvalsh`` none of this waits for
    the device.

    Args:
        kernels: ``[..., n, n]``, finite.

    Returns:
        ``[...]``; zero for a kernel of zeros.
    """
    num_rows = kernels.shape[-1]
    if num_rows == 1:
        return kernels[..., 0, 0]
    if num_rows > _LARGEST_SQUARED:
        return _power_method(kernels)
    power = _unit_trace(kernels)
    for _ in range(_SQUARINGS):
        power = _unit_trace(power @ power)
    return (power * kernels).sum((-2, -1))


def _unit_trace(matrices: Tensor) -> Tensor:
    trace = matrices.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return (matrices / trace).masked_fill(trace <= 0, 0.0)


def _power_method(kernels: Tensor) -> Tensor:
    # No simple pattern of signs: eigenvectors of kernels are often smooth or alternating.
    start = torch.arange(kernels.shape[-1], device=kernels.device, dtype=kernels.dtype)
    vectors = (1 + start.square().cos()).expand(kernels.shape[:-1])[..., None]
    # Squares of a kernel's entries may leave the range of its type; those of shares do not.
    shares = _unit_trace(kernels)
    for _ in range(_POWER_STEPS):
        images = shares @ vectors
        vectors = torch.nn.functional.normalize(images, dim=-2, eps=0.0).nan_to_num_()
    eigenvalues: Tensor = (vectors * (kernels @ vectors)).sum((-2, -1))
    return eigenvalues


def inner_products(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Inner products of all rows with all rows, ``[rows, rows]`` of ``[rows, columns]``.

    So few rows of so many columns are multiplied faster in parts that stay in the cache, and a
    higher precision then needs no second copy of all of them.

    Args:
        rows: The rows.
        dtype: Precision of the products and of the result.
    """
    products = rows.new_zeros(len(rows), len(rows), dtype=dtype)
    for part in rows.split(_CACHED_COLUMNS, dim=1):
        columns = part.to(dtype)
        products = products.addmm(columns, columns.mT)
    return products


def block_sums(row_kernels: Tensor, num_minibatches: int) -> Tensor:
    """Sums inner products of rows to those of mini-batches.

    Args:
        row_kernels: ``[tasks, batch, batch]``.
        num_minibatches: Equal parts into which the rows are split, in order.

    Returns:
        ``[tasks, num_minibatches, num_minibatches]``.
    """
    split = (num_minibatches, row_kernels.shape[1] // num_minibatches)
    blocks: Tensor = row_kernels.unflatten(2, split).unflatten(1, split)
    return blocks.sum((2, 4))


def output_kernels(factors: Sequence[KernelFactor], outputs: Tensor) -> Tensor:
    """Tangent kernel of each task's outputs, the paper's Eq. 8 row by row.

    No gradient is written: every layer adds the inner products of its rows' gradients. The graph is
    kept for the losses' backward pass.

    Args:
        factors: The shared layers.
        outputs: What the network made of the batch, ``[tasks, batch, outputs]``; row ``b`` may
            depend on row ``b`` of the layers only.

    Returns:
        ``[tasks, outputs * batch, outputs * batch]``.
    """
    num_tasks, batch_size, num_outputs = outputs.shape
    gradients = [
        output_gradients(column.sum(), factors, retain_graph=True, allow_unused=True)
        for column in outputs.unbind(2)
    ]
    kernels = outputs.new_zeros(num_tasks, num_outputs, batch_size, num_outputs, batch_size)
    for factor, by_output in zip(factors, zip(*gradients, strict=True), strict=True):
        _add_layer(kernels, factor, by_output)
    return kernels.flatten(3, 4).flatten(1, 2)


def _add_layer(kernels: Tensor, factor: KernelFactor, gradients: Sequence[Tensor | None]) -> None:
    """Adds a layer's share, given the outputs' gradients; an output may not pass the layer."""
    used = [(index, gradient) for index, gradient in enumerate(gradients) if gradient is not None]
    for row, one in used:
        for column, other in used:
            if column < row:
                continue
            products = factor.row_kernels(one, other)
            kernels[:, row, :, column] += products
            if column > row:
                kernels[:, column, :, row] += products.mT
