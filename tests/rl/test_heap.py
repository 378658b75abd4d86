"""Freed memory is kept for what comes next; other C libraries are left alone."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from mtrl_ntk.rl import heap

PROGRAM = """
import resource
from mtrl_ntk.rl.heap import keep_freed_memory
keep_freed_memory()
import numpy as np
def work():
    for _ in range(20):
        parts = [np.ones(500_000) for _ in range(4)]
        del parts
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(heap._glibc() is None, reason="the C library is not glibc")
def test_what_is_freed_is_not_asked_for_again() -> None:
    faults = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True)
    pages = 20 * 4 * 8 * 500_000 // resource.getpagesize()
    assert int(faults) < pages / 20


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    heap._glibc.cache_clear()
    try:
        assert heap._glibc() is None
        heap.keep_freed_memory()
        heap.return_freed_memory()
    finally:
        heap._glibc.cache_clear()
