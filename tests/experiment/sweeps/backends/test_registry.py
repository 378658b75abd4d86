"""The same sweep on Ray, on Slurm, and where neither is installed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import psutil
import pytest
from submitit.core.utils import JobPaths, UncompletedJobError

from mtrl_ntk.errors import ConfigError, Interrupted, UserError
from mtrl_ntk.experiment.sweeps import sweep as sweep_module
from mtrl_ntk.experiment.sweeps.backends.job import Backend, Ending, Job
from mtrl_ntk.experiment.sweeps.backends.registry import make_backend
from mtrl_ntk.experiment.sweeps.backends.slurm import SlurmBackend, _SlurmExecution
from mtrl_ntk.experiment.sweeps.options import Resources, Sweep, SweepOptions, minutes, read_sweep
from mtrl_ntk.experiment.sweeps.runs import JobsPlan
from mtrl_ntk.experiment.sweeps.sweep import run_sweep
from tests.experiment.sweeps.made_sweeps import SETTINGS, FakeTraining, write_finished_run

Cluster = Literal["ray", "slurm"]
AGAIN = "sweep_mt10 --again"
PATIENCE_S = 60.0
RESOURCES = Resources(cpus=1, gpus=0, mem=0.0, minutes=60, partition=None)


@pytest.fixture(scope="module")
def fake_folder(tmp_path_factory: pytest.TempPathFactory) -> FakeTraining:
    return FakeTraining(tmp_path_factory.mktemp("fake") / "training")


@pytest.fixture
def fake(fake_folder: FakeTraining) -> Iterator[FakeTraining]:
    yield fake_folder
    fake_folder.behave()
    fake_folder.forget()


def sweep(backend: Cluster, out: Path) -> Sweep:
    options = SweepOptions(
        methods=("equal", "ntkmtl"), seeds=("1-2",), out=out, backend=backend, cpus=1
    )
    return Sweep(options, SETTINGS)


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


@pytest.mark.parametrize(("backend", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_package_a_backend_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Cluster, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(
        sys.modules, f"mtrl_ntk.experiment.sweeps.backends.{backend}", raising=False
    )
    with pytest.raises(UserError, match=f"pip install {package}$"):
        run_sweep(sweep(backend, tmp_path / "out"), AGAIN)
    assert list(tmp_path.iterdir()) == []


def test_without_slurm_its_backend_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no Slurm here"):
        run_sweep(sweep("slurm", tmp_path / "out"), AGAIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("time", "expected"), [("90", 90), ("1:30:00", 90), ("0:00:01", 1), ("24:00:00", 1440)]
)
def test_a_time_is_minutes_or_has_colons(time: str, expected: int) -> None:
    assert minutes(time) == expected


@pytest.mark.parametrize("time", ["", "0", "1:30", "a day", "-5"])
def test_other_times_are_refused(time: str) -> None:
    with pytest.raises(ConfigError, match="time is"):
        minutes(time)


@pytest.mark.parametrize("time", ["12:00:00", "90"])
def test_a_time_in_a_file_needs_no_quotes(tmp_path: Path, time: str) -> None:
    file = tmp_path / "sweep.yaml"
    for quoted in (time, f"'{time}'"):
        file.write_text(f"methods: equal\nbackend: slurm\ntime: {quoted}\n")
        assert read_sweep(["--sweep", str(file)], "sweep_mt10").options.time == time


@pytest.mark.parametrize("option", [{"cpus": 2}, {"partition": "gpu"}])
def test_an_option_of_a_cluster_needs_a_cluster(option: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="is an option of --backend"):
        SweepOptions(**option)  # type: ignore[arg-type]


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


def on_submitit_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has submitit start processes of this machine instead of Slurm's jobs."""

    def backend(options: SweepOptions, plan: JobsPlan, logs: Path) -> Backend:
        assert (options.backend, plan.backend) == ("slurm", "slurm")
        return SlurmBackend(RESOURCES, logs, cluster="local")

    monkeypatch.setattr(sweep_module, "make_backend", backend)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slurm", "ray"])
def test_a_sweep_on_a_cluster_is_like_any_other(
    fake: FakeTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: Cluster,
) -> None:
    if name == "slurm":
        on_submitit_alone(monkeypatch)
    write_finished_run(tmp_path / "equal-seed1")
    fake.behave(ntkmtl_seed1="fail", ntkmtl_seed2="wait")
    others = {"ntkmtl-seed1", "equal-seed2", "ntkmtl-seed2"}
    thread = threading.Thread(target=interrupt_when_begun, args=(fake, others))
    thread.start()
    with pytest.raises(Interrupted, match="2 of 4 runs finished"):
        run_sweep(sweep(name, tmp_path), AGAIN, fake.command)
    thread.join()
    assert "ntkmtl-seed1: failed with exit code 1: out of memory" in capsys.readouterr().out
    assert "out of memory" in (tmp_path / "logs" / "ntkmtl-seed1.log").read_text()
    assert [*fake.events("ended")] == ["equal-seed2"]
    assert [*fake.events("saved")] == ["ntkmtl-seed2"]

    fake.behave()
    fake.forget()
    assert run_sweep(sweep(name, tmp_path), AGAIN, fake.command) == []
    began = fake.events("began")
    assert sorted(began) == ["ntkmtl-seed1", "ntkmtl-seed2"]
    assert "--resume" in began["ntkmtl-seed2"]["argv"]
    assert run_sweep(sweep(name, tmp_path), AGAIN, fake.command) == []  # asks no cluster


def interrupt_when_begun(fake: FakeTraining, names: set[str]) -> None:
    wait_until(lambda: names <= fake.events("began").keys() and fake.events("ended"))
    time.sleep(1)  # for the sweep to see it
    os.kill(os.getpid(), signal.SIGINT)


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
