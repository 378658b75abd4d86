"""The benchmark of lost workers measures steps with a loss and without."""

from __future__ import annotations

import pytest

from scripts.benchmarks import recovery as bench_recovery


@pytest.mark.slow
def test_a_lost_worker_costs_more_than_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_recovery, "HORIZON", 5)
    _, plain, lost = bench_recovery.measure(1, steps=(2,))
    assert lost["what"] == "a step that loses a worker, 2 of an episode"
    assert 0 < float(plain["longest_s"]) < float(lost["median_s"]) == float(lost["longest_s"])
