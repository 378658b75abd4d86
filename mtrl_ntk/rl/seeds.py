"""Seeds, as callers give them."""

from __future__ import annotations

import operator
from typing import SupportsIndex

import numpy as np

from mtrl_ntk.errors import ConfigError


def seed_of(value: SupportsIndex) -> int:
    """A seed as a plain integer; it may be one of NumPy's.

    Raises:
        ConfigError: If it is none that both NumPy and PyTorch take.
    """
    try:
        seed = -1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        seed = -1
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed is {value!r}; it must be an integer from 0 to 2**64 - 1")
    return seed
