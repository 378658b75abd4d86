"""Work goes on, or ends as promised, when nobody reads what a command shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

import pytest

from mtrl_ntk import cli
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.logs.csv_sink import success_rates
from mtrl_ntk.experiment.logs.progress import standard_output
from mtrl_ntk.experiment.logs.streams import print_lines
from mtrl_ntk.experiment.sweeps import sweep as sweep_module
from mtrl_ntk.experiment.training import signals
from mtrl_ntk.experiment.training.trainer import Trainer
from tests.experiment.run_folders import write_methods
from tests.experiment.sweeps.made_sweeps import SETTINGS, FakeTraining
from tests.robustness import exit_codes
from tests.saved import save_run

pytestmark = pytest.mark.usefixtures("no_plots", "undrawn")

STEPS = 30
TRAIN = (
    *("--tasks=reach-v3", "--horizon=10", "--width=16", "--depth=1", "--batch-size=8"),
    *("--warmstart-steps=5", f"--total-steps={STEPS}", "--replay-capacity=30", "--log-every=5"),
    *("--evaluate-every=10", "--evaluation-episodes=1", "--threads=1", "--workers=0"),
    *("--device=cpu", "--run-dir=run"),
)
LOST = "warning: cannot write the output: Broken pipe; the work goes on without showing it\n"


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        yield stream


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def code_of(unread: TextIO, command: Callable[[], None], *argv: str) -> object:
    """The exit code of a command whose output nobody reads."""
    return exit_codes.code_of(command, *argv, out=unread, err=sys.stderr)


def test_training_goes_on_without_its_display(
    unread: TextIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(unread, cli.train_mt10, *TRAIN) == 0
    assert list(success_rates(Path("run"))) == [10, 20, STEPS]
    assert capsys.readouterr().err == f"train_mt10: {LOST}"
    unread.flush()  # as the interpreter does at its end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_stop_is_saved_and_has_its_exit_code(
    unread: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    take_step = Trainer.take_step

    def take_and_send(trainer: Trainer) -> None:
        if trainer.clock.step == 7:
            os.kill(os.getpid(), number)
        take_step(trainer)

    monkeypatch.setattr(Trainer, "take_step", take_and_send)
    assert code_of(unread, cli.train_mt10, *TRAIN) == 128 + number
    assert Path("run/checkpoint/step-000000008").is_dir()
    assert f"stopped by {number.name} after 8 steps" in capsys.readouterr().err
    unread.flush()


def test_evaluations_are_written(unread: TextIO, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(Path("trained"))
    argv = ("--run", "trained", "--episodes", "1", "--workers", "0", "--out", "scores")
    assert code_of(unread, cli.evaluate_mt10, *argv) == 0
    assert Path("scores/evaluation.json").is_file()
    assert capsys.readouterr().err == f"evaluate_mt10: {LOST}"
    unread.flush()


def test_reports_are_written(unread: TextIO, capsys: pytest.CaptureFixture[str]) -> None:
    write_methods(Path("runs"), {"equal": 0.5}, seeds=[1])
    assert code_of(unread, cli.report_mt10, "runs", "--resamples", "10") == 0
    assert Path("report/index.html").is_file()
    assert capsys.readouterr().err == f"report_mt10: {LOST}"
    unread.flush()


def test_sweeps_train_all_their_runs(
    tmp_path: Path,
    unread: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = FakeTraining(tmp_path / "training")
    run_sweep = partial(sweep_module.run_sweep, train=fake.command)
    monkeypatch.setattr(sweep_module, "run_sweep", run_sweep)
    argv = ("--methods=equal,ntkmtl", "--out=sweep", *SETTINGS)
    assert code_of(unread, cli.sweep_mt10, *argv) == 0
    assert sorted(fake.events("ended")) == ["equal-seed1", "ntkmtl-seed1"]
    assert capsys.readouterr().err == f"sweep_mt10: {LOST}"
    unread.flush()


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (cli.train_mt10, ("--dry-run", *TRAIN)),
        (cli.train_mt10, ("--help",)),
        (cli.sweep_mt10, ("--dry-run", "--methods=equal", *TRAIN[:-1])),
        (cli.report_mt10, ("--print-completion", "bash")),
    ],
)
def test_what_only_shows_something_ends_without_a_word(
    unread: TextIO,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[], None],
    argv: tuple[str, ...],
) -> None:
    assert code_of(unread, command, *argv) == 0
    assert capsys.readouterr().err == ""
    unread.flush()


def test_errors_that_nobody_reads_keep_their_exit_code() -> None:
    # A real process: what is left in its streams is written by the interpreter, at the very end.
    reading, writing = os.pipe()
    os.close(reading)
    program = "from mtrl_ntk.cli import evaluate_mt10; evaluate_mt10()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--run"],
        stdout=writing,
        stderr=writing,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    os.close(writing)
    assert done.returncode == 2


class _FullDisk:
    """Takes nothing for a while."""

    def __init__(self) -> None:
        self.is_full, self.text = True, ""

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Has nothing to do."""

    def isatty(self) -> bool:
        return False


def test_a_full_disk_is_said_once_and_hides_nothing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = _FullDisk()
    monkeypatch.setattr(sys, "stdout", disk)
    console = standard_output()
    with pytest.warns(UserWarning, match="cannot write the output: No space left"):
        console.print("one")
    console.print("two")  # in silence: a warning would be an error
    disk.is_full = False
    with pytest.warns(UserWarning, match="the output can be written again"):
        console.print("three")
    assert disk.text.endswith("three\n")


def test_lines_that_a_full_disk_does_not_take_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _FullDisk())
    with pytest.raises(UserError, match="cannot write the output: No space left on device"):
        print_lines(["a plan"])


def test_a_hangup_that_is_ignored_goes_on_being_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with signals.StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)
