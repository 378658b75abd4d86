"""The short way to ask whether numbers are finite."""

from __future__ import annotations

import math

import pytest
import torch

from mtrl_ntk.balancing.finite import is_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_what_torch_says(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    finite = [0.0, -0.0, 1.5, limits.max, limits.min, limits.tiny, limits.tiny / 2]
    numbers = torch.tensor([*finite, math.nan, math.inf, -math.inf], dtype=dtype)
    assert is_finite(numbers).tolist() == numbers.isfinite().tolist() == 7 * [True] + 3 * [False]
