"""Whether numbers are finite, in as few operations as it takes."""

from __future__ import annotations

from torch import Tensor


def is_finite(numbers: Tensor) -> Tensor:
    """Does what ``torch.isfinite`` does, in two operations instead of four.

    An update asks this of a few numbers at a time, over and over. On a GPU each operation costs as
    much as one of the layers' products.
    """
    return (numbers - numbers) == 0
