"""What the C library does with memory that was freed; where it is not glibc, nothing happens."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_freed_memory() -> None:
    """Keeps what is freed for what comes next, up to 32 MB a piece.

    The tensors of an update come and go in the same sizes. By default part of them goes back to the
    system each time, to be asked for and filled with zeros again: up to 11 000 page faults, a tenth
    of the update.
    """
    glibc = _glibc()
    if glibc is not None:
        glibc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        glibc.mallopt(_TRIM_THRESHOLD, _NEVER)


def return_freed_memory() -> None:
    """Gives back to the system what was freed so far: 9 MB for every simulation that was loaded."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


@cache
def _glibc() -> Any:  # noqa: ANN401 - a foreign library has no type
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
