"""Runs as processes of this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mtrl_ntk.experiment.sweeps.backends.job import Ending, Execution, Job
from mtrl_ntk.experiment.sweeps.backends.local import LocalBackend
from tests.experiment.sweeps.backends.clusters import wait_until


def started(tmp_path: Path, program: str) -> tuple[Job, Execution]:
    job = Job("one", [sys.executable, "-c", program], tmp_path / "one.log")
    execution = LocalBackend().submit(job, {"OF_THE_SLOT": "7"})
    assert execution.has_started()
    return job, execution


def ending_of(execution: Execution) -> Ending:
    wait_until(lambda: execution.ending() is not None)
    ending = execution.ending()
    assert ending is not None
    return ending


def test_a_job_has_its_environment_and_its_log(tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['OF_THE_SLOT']); print('bad', file=sys.stderr)"
    job, execution = started(tmp_path, f"{program}; sys.exit(3)")
    assert ending_of(execution).exit_code == 3
    command, *output = job.log.read_text().strip().splitlines()
    assert sys.executable in command
    assert sorted(output) == ["7", "bad"]


@pytest.mark.parametrize("end", ["interrupt", "kill"])
def test_a_job_can_be_ended(tmp_path: Path, end: str) -> None:
    job, execution = started(tmp_path, "import time; print('begun', flush=True); time.sleep(600)")
    wait_until(lambda: "begun" in job.log.read_text())
    getattr(execution, end)()
    assert ending_of(execution).exit_code != 0
