"""The benchmark of compiled updates: what it compares, and what it writes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from mtrl_ntk.experiment.training import learner
from scripts.benchmarks.compile import BenchOptions, main

TINY = ["--tasks", "2", "--rows", "4", "--width", "8", "--depth", "1", "--rounds", "1"]


def test_agents_are_compared_at_powers_of_ten_and_at_the_end() -> None:
    assert BenchOptions(updates=1).counts == [1]
    assert BenchOptions(updates=100).counts == [1, 10, 100]
    assert BenchOptions(updates=250).counts == [1, 10, 100, 250]


@pytest.mark.slow
def test_what_changes_nothing_differs_by_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = partial(learner.compile_whole, backend="eager")
    monkeypatch.setattr(learner, "compile_whole", traced)
    path = tmp_path / "rows.json"
    assert main([*TINY, "--methods", "equal", "--updates", "30", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [(row["agent"], row["updates"]) for row in rows] == [
        (agent, updates) for agent in ("compiled", "rounded") for updates in (1, 10, 30)
    ]
    for row in rows:
        assert row["method"] == "equal"
        assert row["time"] > 0
        changed = row["agent"] == "rounded"
        assert (row["parameters"] > 0) == changed
        # The first losses of a critic that begins near zero are those of its targets.
        assert (row["losses"] > 0) == (changed and row["updates"] > 1)
        assert row["parameters"] < 1e-4
