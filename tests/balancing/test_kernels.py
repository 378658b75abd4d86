"""The largest eigenvalue without a host solver."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mtrl_ntk.balancing.kernels import largest_eigenvalues


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_agrees_with_eigvalsh(size: int, scale: float) -> None:
    rows = scale * torch.randn(20, size, 50, dtype=torch.float64)
    kernels = rows @ rows.mT
    assert_close(
        largest_eigenvalues(kernels), torch.linalg.eigvalsh(kernels)[:, -1], rtol=1e-6, atol=0
    )


def test_correlated_rows_in_single_precision() -> None:
    rows = torch.randn(20, 1, 50) + 0.1 * torch.randn(20, 8, 50)
    kernels = rows @ rows.mT
    assert_close(
        largest_eigenvalues(kernels), torch.linalg.eigvalsh(kernels)[:, -1], rtol=1e-5, atol=0
    )


def test_repeated_eigenvalue() -> None:
    assert_close(largest_eigenvalues(3 * torch.eye(5)), torch.tensor(3.0))


@pytest.mark.parametrize("size", [1, 4])
def test_zero_kernel_has_eigenvalue_zero(size: int) -> None:
    kernels = torch.zeros(2, size, size)
    kernels[1] = torch.eye(size)
    assert_close(largest_eigenvalues(kernels), torch.tensor([0.0, 1.0]))
