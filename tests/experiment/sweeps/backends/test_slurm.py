"""Slurm as a backend: what it is asked for, and what becomes of its jobs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from submitit.core.utils import JobPaths, UncompletedJobError

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.sweeps.backends.job import Ending, Job
from mtrl_ntk.experiment.sweeps.backends.registry import make_backend
from mtrl_ntk.experiment.sweeps.backends.slurm import SlurmBackend, _SlurmExecution
from mtrl_ntk.experiment.sweeps.options import SweepOptions
from mtrl_ntk.experiment.sweeps.runs import JobsPlan
from mtrl_ntk.experiment.sweeps.sweep import run_sweep
from tests.experiment.sweeps.backends.clusters import AGAIN, RESOURCES, sweep_on, wait_until
from tests.experiment.sweeps.made_sweeps import FakeTraining


def test_without_slurm_its_backend_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no Slurm here"):
        run_sweep(sweep_on("slurm", tmp_path / "out"), AGAIN)
    assert list(tmp_path.iterdir()) == []


def fake_slurm(folder: Path) -> None:
    """Programs of Slurm that take a job and do nothing about it."""
    folder.mkdir()
    answers = {"sbatch": "Submitted batch job 7", "srun": "", "sacct": "JobID|State|NodeList"}
    for name, answer in answers.items():
        (folder / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (folder / name).chmod(0o755)
    (folder / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {folder}/cancelled\n')
    (folder / "scancel").chmod(0o755)


def test_a_slurm_job_asks_for_what_the_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    options = SweepOptions(
        methods=("equal",), backend="slurm", gpus=1, mem=7.5, time="2:00:00", partition="gpu"
    )
    backend = make_backend(options, JobsPlan(1, 4, (), "slurm"), tmp_path / "logs")
    job = Job("equal-seed1", ["train"], tmp_path / "logs" / "equal-seed1.log")
    execution = backend.submit(job, {})
    (script,) = (tmp_path / "logs" / "slurm" / "7").glob("*_submission.sh")
    lines = script.read_text().splitlines()
    expected = {"job-name=equal-seed1", "partition=gpu", "time=120", "cpus-per-task=4", "requeue"}
    expected |= {"gpus-per-node=1", "mem=7680MB", "signal=USR1@120", "open-mode=append"}
    assert {f"#SBATCH --{each}" for each in expected} <= {*lines}
    assert "export SUBMITIT_EXECUTOR=slurm" in lines
    assert any(line.startswith("srun ") and sys.executable in line for line in lines)

    assert not execution.has_started()
    assert execution.ending() is None
    execution.interrupt()  # it still waits: it is taken back
    assert (tmp_path / "bin" / "cancelled").read_text() == "7\n"
    assert execution.ending() is not None


@pytest.mark.slow
def test_a_preempted_slurm_job_saves_and_is_queued_again(
    fake: FakeTraining, tmp_path: Path
) -> None:
    backend = SlurmBackend(RESOURCES, tmp_path / "logs", cluster="local")
    fake.behave(run="wait")
    command = [*fake.command, f"--run-dir={tmp_path / 'run'}", "--resume"]
    execution = backend.submit(Job("run", command, tmp_path / "logs" / "run.log"), {})
    wait_until(lambda: fake.events("began"))
    first = fake.events("began")["run"]["pid"]
    holder = psutil.Process(first).parent()
    assert holder is not None
    fake.behave()
    holder.send_signal(signal.SIGUSR1)
    wait_until(execution.ending)
    assert execution.ending() == Ending(0)
    assert fake.events("saved")["run"]["pid"] == first
    assert fake.events("ended")["run"]["pid"] != first


class LostJob:
    """What submitit says of a job whose process is gone."""

    paths = JobPaths("logs", "7")
    state = "NODE_FAIL"

    def done(self) -> bool:
        return True

    def result(self) -> None:
        raise UncompletedJobError("no result")


def test_a_lost_slurm_job_has_failed(tmp_path: Path) -> None:
    ending = _SlurmExecution(LostJob(), tmp_path / "stop").ending()  # type: ignore[arg-type]
    assert ending is not None
    assert ending.exit_code
    assert ending.reason.startswith("ended as NODE_FAIL")
