"""Runs of a soak: whether their memory grows."""

from __future__ import annotations

import pytest

from scripts.soak.training import slope


def test_memory_that_grows_is_seen() -> None:
    flat = [(float(second), 100_000_000) for second in range(600)]
    growing = [(second, size + int(second * 1e6 / 60)) for second, size in flat]
    assert slope(flat) == pytest.approx(0)
    assert slope(growing) == pytest.approx(60, rel=1e-3)
    # What is allocated at the beginning is no growth.
    assert slope([(0.0, 10), *growing[:100], *((t + 100, 5 * 10**8) for t, _ in flat)]) == (
        pytest.approx(0, abs=1e-6)
    )
    assert slope(flat[:100]) is None
    assert slope([]) is None
