"""Whether results are the same to the last bit."""

from __future__ import annotations

import numpy as np


def is_same(one: object, other: object) -> bool:
    """Whether two results have the same types, shapes and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and is_same(tuple(one.values()), tuple(other.values()))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    array, other_array = np.asarray(one), np.asarray(other)
    return (array.dtype, array.shape, array.tobytes()) == (
        other_array.dtype,
        other_array.shape,
        other_array.tobytes(),
    )
