"""Eigenvalues and eigenvectors of small symmetric matrices, computed without leaving the device."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_NEGLIGIBLE = torch.finfo(torch.float64).eps  # as a share of the matrix' Frobenius norm
_SMALL = 10


class Eigen(NamedTuple):
    """An eigen-decomposition ``vectors @ diag(values) @ vectors.T``."""

    values: Tensor
    """Eigenvalues, float64 ``[n]``, in no order."""
    vectors: Tensor
    """Orthonormal eigenvectors as columns, float64 ``[n, n]``."""
    residual: Tensor
    """What is left outside of the diagonal, as a share of the matrix' Frobenius norm; a scalar."""


class _Round(NamedTuple):
    """Constants of a round of rotations, the same for all rounds; ``half`` pairs of ``size``."""

    entries: Tensor
    """Where, in the flat matrix, each pair's two diagonal entries and its product stand."""
    pairs: Tensor
    """The pair of each column after the round, ``[size]``."""
    cosine_part: Tensor
    """What a column's cosine multiplies, ``[size, size]``."""
    sine_part: Tensor
    """What a column's sine multiplies, ``[size, size]``."""


def symmetric_eigen(matrix: Tensor) -> Eigen:
    """Decomposes a symmetric matrix by Jacobi's rotations, in a fixed number of operations.

    A round rotates disjoint pairs of coordinates, half as many as there are coordinates, each by
    the angle that clears the pair's product, and then moves the coordinates on around a circle, so
    that after a sweep of ``n - 1`` rounds every pair has met: the parallel ordering of Brent and
    Luk (1985). A round is one orthogonal matrix and three products. Convergence is quadratic in the
    end; the number of sweeps is fixed at what Gramians of float32 gradients, whose zero eigenvalues
    are the slowest to come apart, needed to leave below 1e-9 outside of the diagonal; of more than
    ten rows, at what graded spectra need, whose smallest eigenvalues come last.

    Products below the machine precision are left alone. Without this, the rotations within a
    cluster of equal eigenvalues, those of zero say, turn by the large angles that rounding errors
    ask for, and undo what others have cleared: convergence then is slow and linear.

    ``torch.linalg.eigh`` waits for the device. Eigenvalues of both have an absolute error of some
    units of rounding of the largest one.

    Args:
        matrix: ``[n, n]``, finite; the mean of it and its transpose is what is decomposed.
    """
    num_rows = matrix.shape[0]
    size = max(4, num_rows + num_rows % 2)  # pairs need an even number, and the circle two pairs
    padding = (0, size - num_rows) * 2
    work = functional.pad(matrix.double(), padding)
    work = (work + work.mT) / 2
    scale = torch.linalg.matrix_norm(work).clamp(min=torch.finfo(work.dtype).tiny)
    work = work / scale
    vectors = torch.eye(size, device=work.device, dtype=work.dtype)
    constants = _round(vectors)
    doublings = math.ceil(math.log2(size))
    sweeps = 4 + doublings if size <= _SMALL else 3 * doublings
    for _ in range(sweeps * (size - 1)):
        rotation = _rotation(work, constants)
        work = rotation.mT @ work @ rotation
        vectors = vectors @ rotation
    values = work.diagonal()
    residual = torch.linalg.matrix_norm(work - torch.diag_embed(values))
    # A row of padding is never rotated, and every coordinate is back in its place.
    return Eigen(values[:num_rows] * scale, vectors[:num_rows, :num_rows], residual)


def _round(identity: Tensor) -> _Round:
    """Constants for coordinates ``i`` and ``i + half`` paired, made on the device."""
    size = len(identity)
    half = size // 2
    places = torch.arange(size, device=identity.device)
    # The first coordinate stays; the others move on by one along the first half, and back along
    # the second.
    moved = torch.cat(
        [
            places[:1],
            places[half : half + 1],
            places[1 : half - 1],
            places[half + 1 :],
            places[half - 1 : half],
        ]
    )
    diagonal = places * (size + 1)
    partners = identity.roll(half, 0)
    signs = torch.where(places < half, 1.0, -1.0).to(identity.dtype)
    return _Round(
        entries=torch.cat([diagonal, diagonal[:half] + half]),
        pairs=moved % half,
        cosine_part=identity.index_select(1, moved),
        sine_part=(partners * signs).index_select(1, moved),
    )


def _rotation(work: Tensor, constants: _Round) -> Tensor:
    """The orthogonal matrix ``[size, size]`` of one round."""
    first, second, products = work.flatten().index_select(0, constants.entries).view(3, -1)
    products = functional.hardshrink(products, _NEGLIGIBLE)
    # Of two equal entries without a product, nothing is divided by next to nothing.
    differences = first - second + torch.finfo(work.dtype).tiny
    angles = (0.5 * torch.atan(2 * products / differences)).index_select(0, constants.pairs)
    cosines, sines = angles.cos(), angles.sin()
    return torch.addcmul(constants.cosine_part * cosines, constants.sine_part, sines)
