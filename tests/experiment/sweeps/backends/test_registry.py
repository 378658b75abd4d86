"""The same sweep on Ray, on Slurm, and where neither is installed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError, Interrupted, UserError
from mtrl_ntk.experiment.sweeps import sweep as sweep_module
from mtrl_ntk.experiment.sweeps.backends.job import Backend, Ending, Job
from mtrl_ntk.experiment.sweeps.backends.slurm import SlurmBackend
from mtrl_ntk.experiment.sweeps.options import SweepOptions, minutes, read_sweep
from mtrl_ntk.experiment.sweeps.runs import JobsPlan
from mtrl_ntk.experiment.sweeps.sweep import run_sweep
from tests.experiment.sweeps.backends.clusters import (
    AGAIN,
    RESOURCES,
    Cluster,
    sweep_on,
    wait_until,
)
from tests.experiment.sweeps.made_sweeps import FakeTraining, write_finished_run


@pytest.mark.parametrize(("backend", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_package_a_backend_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Cluster, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(
        sys.modules, f"mtrl_ntk.experiment.sweeps.backends.{backend}", raising=False
    )
    with pytest.raises(UserError, match=f"pip install {package}$"):
        run_sweep(sweep_on(backend, tmp_path / "out"), AGAIN)
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
    seen: list[Job] = []
    end = Job.end

    def end_and_note(job: Job, ending: Ending) -> None:
        end(job, ending)
        seen.append(job)

    monkeypatch.setattr(Job, "end", end_and_note)
    thread = threading.Thread(target=interrupt_when_begun, args=(fake, others, seen))
    thread.start()
    with pytest.raises(Interrupted, match="2 of 4 runs finished"):
        run_sweep(sweep_on(name, tmp_path), AGAIN, fake.command)
    thread.join()
    assert "ntkmtl-seed1: failed with exit code 1: out of memory" in capsys.readouterr().out
    assert "out of memory" in (tmp_path / "logs" / "ntkmtl-seed1.log").read_text()
    assert [*fake.events("ended")] == ["equal-seed2"]
    assert [*fake.events("saved")] == ["ntkmtl-seed2"]

    fake.behave()
    fake.forget()
    assert run_sweep(sweep_on(name, tmp_path), AGAIN, fake.command) == []
    began = fake.events("began")
    assert sorted(began) == ["ntkmtl-seed1", "ntkmtl-seed2"]
    assert "--resume" in began["ntkmtl-seed2"]["argv"]
    assert run_sweep(sweep_on(name, tmp_path), AGAIN, fake.command) == []  # asks no cluster


def interrupt_when_begun(fake: FakeTraining, names: set[str], ended: list[Job]) -> None:
    wait_until(lambda: names <= fake.events("began").keys() and len(ended) == 2)
    os.kill(os.getpid(), signal.SIGINT)
