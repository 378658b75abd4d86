"""What a sweep notes of a run: how far it is, how it has ended, and for how long it ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.experiment.sweeps.backends.job import Ending, Job, State


@pytest.mark.parametrize(
    ("ending", "state"),
    [(Ending(0), "finished"), (Ending(1), "failed"), (Ending(-9, "out of memory"), "failed")],
)
def test_time_runs_while_a_job_does(
    monkeypatch: pytest.MonkeyPatch, ending: Ending, state: State
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    job = Job("equal-seed1", ["train_mt10"], Path("log"))
    assert (job.state, job.seconds) == ("waiting", 0)
    job.begin()
    now[0] += 30
    assert (job.state, job.seconds) == ("running", 30)
    job.end(ending)
    now[0] += 30
    assert (job.state, job.seconds, job.ending) == (state, 30, ending)
