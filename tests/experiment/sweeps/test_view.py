"""The table of a sweep while it goes on."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mtrl_ntk.experiment.sweeps.backends.job import Job, State
from mtrl_ntk.experiment.sweeps.options import Sweep
from mtrl_ntk.experiment.sweeps.runs import plan_runs
from mtrl_ntk.experiment.sweeps.view import SweepRow, SweepView
from tests.experiment.sweeps.made_sweeps import SETTINGS, two_by_two, write_finished_run


def test_the_live_table_shows_running_and_failed_runs_first(tmp_path: Path) -> None:
    states: list[State] = ["finished", "waiting", "failed", "running"]
    rows = []
    for run, state in zip(plan_runs(two_by_two(tmp_path)), states, strict=True):
        rows.append(SweepRow(run, Job(run.name, [], tmp_path / run.name, state)))
        if state in ("finished", "running"):
            write_finished_run(run.folder, 80 if state == "finished" else 40)
    output = StringIO()
    console = Console(file=output, force_terminal=True, width=100, height=30, color_system=None)
    with SweepView(rows, console) as view:
        view.refresh()
    text = output.getvalue()
    assert "4 runs: 1 running, 1 failed, 1 waiting, 1 finished; 38% of all steps" in text
    shown = [line for line in text.splitlines() if "-seed" in line][-4:]  # as drawn last
    assert [line.split()[1] for line in shown] == ["running", "failed", "waiting", "finished"]
    assert "50%" in shown[0]
    assert "75%" in shown[0]


def test_the_time_left_follows_from_the_speed_seen(tmp_path: Path) -> None:
    (run, *_) = plan_runs(two_by_two(tmp_path))
    row = SweepRow(run, Job(run.name, [], tmp_path / "log", "running"))
    for now, step in ((10.0, 20), (14.0, 40)):
        write_finished_run(run.folder, step)
        row.refresh(now)
    assert row.step == 40
    assert row.remaining(14.0) == pytest.approx(8.0)


def test_what_is_left_of_a_run_that_may_end_sooner_is_at_most_that(tmp_path: Path) -> None:
    (run, *_) = plan_runs(Sweep(two_by_two(tmp_path).options, (*SETTINGS, "--stop-at=0.9")))
    row = SweepRow(run, Job(run.name, [], tmp_path / "log", "running"))
    assert row.left(0.0) == "-"
    for now, step in ((10.0, 20), (14.0, 40)):
        write_finished_run(run.folder, step)
        row.refresh(now)
    assert row.left(14.0) == "at most 8 s"
    assert "40 of at most 80 steps" in SweepView([row])._line(row)
