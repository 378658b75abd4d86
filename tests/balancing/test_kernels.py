"""The largest eigenvalue without a host solver."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.kernels import largest_eigenvalues
from tests.balancing.problems import make_problem

SMALL, LARGE = 4, 40
"""Rows of kernels that are squared, and of kernels that get the power method."""


def exact(kernels: Tensor) -> Tensor:
    """The largest eigenvalue by a host solver in double precision."""
    eigenvalues: Tensor = torch.linalg.eigvalsh(kernels.double())[..., -1]
    return eigenvalues


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_agrees_with_eigvalsh(size: int, scale: float) -> None:
    rows = scale * torch.randn(20, size, 50, dtype=torch.float64)
    kernels = rows @ rows.mT
    assert_close(largest_eigenvalues(kernels), exact(kernels), rtol=1e-6, atol=0)


def test_correlated_rows_in_single_precision() -> None:
    rows = torch.randn(20, 1, 50) + 0.1 * torch.randn(20, 8, 50)
    kernels = rows @ rows.mT
    assert_close(largest_eigenvalues(kernels).double(), exact(kernels), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("size", "share"), [(2, 3e-4), (8, 1e-3), (32, 2e-3)])
def test_eigenvalues_just_below_the_largest_cost_no_more_than_is_said(
    size: int, share: float
) -> None:
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q
    errors = []
    for below in torch.logspace(-5, -1, 81).tolist():
        spectrum = torch.full((size,), 1 - below, dtype=torch.float64)
        spectrum[0] = 1.0
        errors.append(1 - float(largest_eigenvalues(basis * spectrum @ basis.mT)))
        assert below < 0.02 or abs(errors[-1]) < 1e-9
    assert min(errors) > -1e-12
    assert 0.8 * share < max(errors) < share


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_repeated_eigenvalue(size: int) -> None:
    assert_close(largest_eigenvalues(3 * torch.eye(size)), torch.tensor(3.0))


@pytest.mark.parametrize("size", [1, SMALL, LARGE])
def test_zero_kernel_has_eigenvalue_zero(size: int) -> None:
    kernels = torch.zeros(2, size, size)
    kernels[1] = torch.eye(size)
    assert_close(largest_eigenvalues(kernels), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("size", [1, SMALL, LARGE])
def test_any_leading_dimensions(size: int) -> None:
    rows = torch.randn(2, 3, size, 50)
    kernels = rows @ rows.mT
    eigenvalues = largest_eigenvalues(kernels)
    assert eigenvalues.shape == (2, 3)
    assert_close(eigenvalues[1, 2], largest_eigenvalues(kernels[1, 2]))
    assert_close(eigenvalues, largest_eigenvalues(kernels.flatten(0, 1)).view(2, 3))


def test_rows_of_zeros_change_nothing() -> None:
    # Kernels of 32 rows are squared; with one row more they are large.
    problem = make_problem(batch_size=32, dims=(5, 64, 1))
    kernels = problem.factored(source="output").output_kernels()
    padded = torch.nn.functional.pad(kernels, (0, 1, 0, 1))
    assert_close(largest_eigenvalues(padded), largest_eigenvalues(kernels), rtol=1e-3, atol=0)


def assert_bounded(kernels: Tensor, tolerance: float) -> None:
    """Checks that results miss a share of the largest eigenvalue at most, and never exceed it."""
    shares = largest_eigenvalues(kernels).double() / exact(kernels)
    assert shares.min() > 1 - tolerance
    assert shares.max() < 1 + 50 * torch.finfo(kernels.dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize(("num_outputs", "batch_size"), [(1, 33), (1, 128), (3, 64)])
def test_neural_kernels_agree_with_eigvalsh(
    dtype: torch.dtype, num_outputs: int, batch_size: int, *, layer_norm: bool
) -> None:
    dims = (5, 64, 64, num_outputs)
    problem = make_problem(dims=dims, batch_size=batch_size, layer_norm=layer_norm, dtype=dtype)
    kernels = problem.factored(source="output").output_kernels()
    assert_bounded(kernels, tolerance=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [33, 256])
def test_a_crowded_spectrum_is_missed_by_little(dtype: torch.dtype, size: int) -> None:
    rows = torch.randn(10, size, 50, dtype=dtype)
    assert_bounded(rows @ rows.mT, tolerance=0.15)


@pytest.mark.parametrize("size", [33, 64, 256])
def test_a_leading_eigenvector_of_any_shape_is_found(size: int) -> None:
    index = torch.arange(size, dtype=torch.float64)
    shapes = [
        torch.ones_like(index),  # smooth
        torch.cos(torch.pi * (index + 0.5) / size),
        index - index.mean(),
        torch.where(index < size // 2, 1.0, -1.0),  # of two groups
        1 - 2 * (index % 2),  # alternating
        1 - 2 * (index // 2 % 2),
        (index == 0).double(),  # of one row
        (index == size - 1).double(),
    ]
    vectors = torch.nn.functional.normalize(torch.stack(shapes), dim=1)
    kernels = vectors[:, :, None] * vectors[:, None] + 0.5 * torch.eye(size, dtype=torch.float64)
    expected = torch.full((len(shapes),), 1.5, dtype=torch.float64)
    assert_close(largest_eigenvalues(kernels), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_kernels_near_the_ends_of_single_precision(size: int, scale: float) -> None:
    rows = torch.randn(3, size, 5)
    kernels = rows @ rows.mT
    expected = scale * largest_eigenvalues(kernels)
    assert_close(largest_eigenvalues(scale * kernels), expected, rtol=1e-4, atol=0)
