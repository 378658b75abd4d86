"""What a sweep says before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.experiment.sweeps import plan as sweep_plan
from mtrl_ntk.experiment.sweeps.sweep import run_sweep
from tests.experiment.costs import COSTS
from tests.experiment.sweeps.made_sweeps import (
    FakeTraining,
    two_by_two,
    write_finished_run,
)

AGAIN = "sweep_mt10 --again"


NAMES = ["ntkmtl-seed1", "equal-seed1", "ntkmtl-seed2", "equal-seed2"]


def test_a_dry_run_shows_all_and_starts_nothing(
    fake: FakeTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_finished_run(tmp_path / "there" / "equal-seed1")
    monkeypatch.setattr(sweep_plan, "rehearse", lambda *_: COSTS)
    before = sorted(tmp_path.rglob("*"))
    assert run_sweep(two_by_two(tmp_path / "there", dry_run=True), AGAIN, fake.command) == []
    assert sorted(tmp_path.rglob("*")) == before
    assert fake.events("began") == {}
    output = capsys.readouterr().out
    assert "4 runs (1 finished, 3 new), 2 at once on 2 cores" in output
    assert "about 2 h 00 min, 3.00 GB of memory and 4.00 GB of disk, if all runs are like" in output
    assert all(name in output for name in NAMES)
    assert "\n  total_steps: 80\n" in output
    assert "\n  threads: 1\n" in output
    assert "also of ntkmtl-seed1:\n  exponent: 0.5\n" in output


def test_too_many_jobs_are_allowed_and_said(
    fake: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_sweep(two_by_two(tmp_path, jobs=3), AGAIN, fake.command)
    assert "more than the 2 cores: the runs will slow each other down" in capsys.readouterr().out
