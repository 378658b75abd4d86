"""Runs of a soak: whether their memory grows, and how far their workers are."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from scripts.soak.training import has_begun, slope


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


def test_a_worker_has_begun_once_it_ignores_what_ends_others() -> None:
    ignore = "signal.signal(signal.SIGUSR1, signal.SIG_IGN)"
    code = f"import signal; input(); {ignore}; print(flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as program:
        assert program.stdin
        assert program.stdout
        process = psutil.Process(program.pid)
        assert not has_begun(process)
        program.stdin.write(b"\n")
        program.stdin.flush()
        program.stdout.readline()
        assert has_begun(process)
        program.communicate(b"\n")
    assert not has_begun(process)
