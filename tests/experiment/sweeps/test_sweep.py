"""A sweep from its command to its end: skipped, failed, interrupted and taken up again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mtrl_ntk.cli import sweep_mt10
from mtrl_ntk.errors import Interrupted
from mtrl_ntk.experiment.sweeps import sweep as sweep_module
from mtrl_ntk.experiment.sweeps.backends.job import open_log
from mtrl_ntk.experiment.sweeps.runs import plan_runs
from mtrl_ntk.experiment.sweeps.sweep import run_sweep
from tests.experiment.sweeps.made_sweeps import (
    SETTINGS,
    FakeTraining,
    two_by_two,
    write_finished_run,
)

AGAIN = "sweep_mt10 --again"
PATIENCE_S = 300.0
NAMES = ["ntkmtl-seed1", "equal-seed1", "ntkmtl-seed2", "equal-seed2"]


def test_all_runs_are_trained_two_at_once(
    fake: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep(two_by_two(tmp_path), AGAIN, fake.command) == []
    began = fake.events("began")
    assert sorted(began) == sorted(NAMES)
    assert fake.most_at_once() == 2
    for run in plan_runs(two_by_two(tmp_path)):
        assert began[run.name]["argv"] == [*run.arguments, "--threads=1", "--workers=0"]
        assert (tmp_path / run.name / "evaluation.csv").exists()
        assert (tmp_path / "logs" / f"{run.name}.log").exists()
    output = capsys.readouterr().out
    assert "4 runs (4 new), 2 at once on 2 cores, each with 1 thread and 0 workers" in output
    assert output.count("success 75%") == 4
    assert "\x1b" not in output


def test_a_failed_run_does_not_stop_the_others(
    fake: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.behave(ntkmtl_seed1="fail", equal_seed1="be killed", equal_seed2="vanish")
    failed = ["ntkmtl-seed1", "equal-seed1", "equal-seed2"]
    assert run_sweep(two_by_two(tmp_path), AGAIN, fake.command) == failed
    assert sorted(fake.events("began")) == sorted(NAMES)
    output = capsys.readouterr().out
    assert "ntkmtl-seed1: failed with exit code 1: out of memory" in output
    assert "equal-seed1: was ended by SIGKILL, as happens when memory runs out" in output
    assert "equal-seed2: ended without its last step" in output
    assert "3 runs failed:" in output
    assert f"to try them again: {AGAIN}" in output

    fake.behave()
    fake.forget()
    assert run_sweep(two_by_two(tmp_path), AGAIN, fake.command) == []
    assert sorted(fake.events("began")) == sorted(failed)
    assert not any("--resume" in event["argv"] for event in fake.events("began").values())
    assert "4 runs (1 finished, 3 new)" in capsys.readouterr().out


def test_a_run_that_another_command_has_finished_meanwhile_is_finished(
    fake: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.behave(equal_seed1="come late")
    assert run_sweep(two_by_two(tmp_path), AGAIN, fake.command) == []
    output = capsys.readouterr().out
    assert output.count("success 75%") == 4
    assert "failed" not in output


def test_finished_runs_are_skipped_and_interrupted_ones_resumed(
    fake: FakeTraining, tmp_path: Path
) -> None:
    write_finished_run(tmp_path / "equal-seed1")
    write_finished_run(tmp_path / "equal-seed2", 40, finished=False)
    run_sweep(two_by_two(tmp_path), AGAIN, fake.command)
    resumed = {name: "--resume" in began["argv"] for name, began in fake.events("began").items()}
    assert resumed == {"ntkmtl-seed1": False, "ntkmtl-seed2": False, "equal-seed2": True}
    fake.forget()
    assert run_sweep(two_by_two(tmp_path), AGAIN, fake.command) == []
    assert fake.events("began") == {}
    run_sweep(two_by_two(tmp_path / "other"), AGAIN, fake.command)


def interrupt_when(holds: Callable[[], object], number: signal.Signals) -> threading.Thread:
    def wait_and_send() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_stops_its_runs_and_can_go_on(
    fake: FakeTraining, tmp_path: Path, number: signal.Signals
) -> None:
    fake.behave(equal_seed1="wait", ntkmtl_seed2="wait")
    waiting = {"equal-seed1", "ntkmtl-seed2"}
    thread = interrupt_when(lambda: waiting <= fake.events("began").keys(), number)
    with pytest.raises(Interrupted, match="1 of 4 runs finished; to go on: ") as stop:
        run_sweep(two_by_two(tmp_path), AGAIN, fake.command)
    thread.join()
    assert stop.value.exit_code == 128 + number
    assert fake.events("saved").keys() == waiting
    assert "equal-seed2" not in fake.events("began")

    fake.behave()
    fake.forget()
    assert run_sweep(two_by_two(tmp_path), AGAIN, fake.command) == []
    began = fake.events("began")
    assert {name for name in began if "--resume" in began[name]["argv"]} == waiting
    assert sorted(began) == sorted({*waiting, "equal-seed2"})


@pytest.mark.slow
def test_a_second_signal_ends_the_runs_at_once(fake: FakeTraining, tmp_path: Path) -> None:
    fake.behave(ntkmtl_seed1="deaf", equal_seed1="deaf")
    out = tmp_path / "out"
    program = (
        "from pathlib import Path\n"
        "from mtrl_ntk.experiment.sweeps.sweep import run_sweep\n"
        "from mtrl_ntk.experiment.sweeps.options import Sweep, SweepOptions\n"
        f"options = SweepOptions(methods=('ntkmtl', 'equal'), jobs=2, out=Path({str(out)!r}))\n"
        f"run_sweep(Sweep(options, {SETTINGS!r}), 'again', {fake.command!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"")
        while len(fake.events("began")) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert any(b"stopping" in line for line in lines)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    for name in fake.events("began"):
        open_log(out / "logs" / f"{name}.log").close()  # nobody writes to it any more


def command(monkeypatch: pytest.MonkeyPatch, fake: FakeTraining, *argv: str) -> int:
    monkeypatch.setattr(sweep_module, "run_sweep", partial(run_sweep, train=fake.command))
    monkeypatch.setattr(sys, "argv", ["sweep_mt10", *argv])
    try:
        sweep_mt10()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_ends_with_1_if_runs_failed(
    fake: FakeTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["--methods", "equal", "--seeds", "1,2", "--out", str(tmp_path), *SETTINGS]
    fake.behave(equal_seed2="fail")
    assert command(monkeypatch, fake, *argv) == 1
    assert f"to try them again: {shlex.join(['sweep_mt10', *argv])}" in capsys.readouterr().out
    fake.behave()
    assert command(monkeypatch, fake, *argv) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--seeds", "1-3"], "no methods"),
        (["--methods", "equal,ntkmlt"], "unknown method 'ntkmlt'; did you mean ntkmtl?"),
        (["--methods", "equal", "--seeds", "5-1"], "seeds is '5-1'"),
        (["--methods", "equal", "--bach-size", "8"], "did you mean --batch-size?"),
        (["--methods", "equal", "--vary", "width=8,x"], "--width is 'x'"),
        (["--methods", "equal", "--config", "none.yaml"], "none.yaml does not exist"),
        (["--methods", "equal", "--tasks", "reach"], "reach-v3"),
        (["--methods", "equal", "--out", "file"], "cannot write"),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(
    fake: FakeTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert command(monkeypatch, fake, *argv, "--device", "cpu") == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("sweep_mt10: error: ")
    assert errors.count("\n") == 1
    assert said in errors
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_real_runs_are_trained_interrupted_and_resumed(tmp_path: Path) -> None:
    settings = ["--tasks=reach-v3", "--horizon=20", "--total-steps=60", "--warmstart-steps=10"]
    settings += ["--batch-size=8", "--width=16", "--depth=2", "--replay-capacity=200"]
    settings += ["--evaluate-every=30", "--evaluation-episodes=1", "--log-every=10", "--device=cpu"]
    settings += ["--workers=0", "--no-drop-replay"]
    argv = ["--methods", "equal", "--out", str(tmp_path / "out"), *settings]
    start = [sys.executable, "-c", "from mtrl_ntk.cli import sweep_mt10; sweep_mt10()", *argv]
    done = subprocess.run(start, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "out" / "equal-seed1"
    assert "\n60," in (folder / "evaluation.csv").read_text()
    assert "resumed" not in (folder / "run.json").read_text()

    longer = [*start, "--total-steps=90"]
    done = subprocess.run(longer, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 interrupted" in done.stdout
    assert "\n90," in (folder / "evaluation.csv").read_text()
    resumed = json.loads((folder / "run.json").read_text())["resumed"]
    assert [each["vector_steps"] for each in resumed] == [60]
    done = subprocess.run(longer, capture_output=True, text=True, timeout=1200, check=False)
    assert "1 run (1 finished)" in done.stdout
    assert "started" not in done.stdout
