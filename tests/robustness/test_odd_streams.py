"""Commands do their work whatever their standard streams are, lack, or cannot encode."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mtrl_ntk import cli
from mtrl_ntk.experiment.logs.csv_sink import success_rates
from mtrl_ntk.experiment.sweeps import sweep as sweep_module
from tests.experiment.run_folders import write_methods
from tests.experiment.sweeps.made_sweeps import SETTINGS, FakeTraining
from tests.robustness.exit_codes import code_of
from tests.robustness.test_closed_output import STEPS, TRAIN
from tests.saved import save_run

pytestmark = pytest.mark.usefixtures("no_plots", "undrawn")

FOLDER = "läuf 1, [a]=b"


class Bare:
    """What a program may put in the place of a stream."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        """Has nothing to do."""


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def ascii_only() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


STREAMS: dict[str, Callable[[], Any]] = {
    "bare": Bare,
    "none": lambda: None,
    "closed": closed,
    "ascii": ascii_only,
}


def text_of(stream: object) -> str | None:
    """What was written; None where nothing can be."""
    if isinstance(stream, Bare):
        return stream.text
    if isinstance(stream, io.TextIOWrapper):
        stream.flush()
        buffer = stream.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode("ascii").encode().decode("unicode_escape")
    return None


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=STREAMS)
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs a command with streams of a kind, which shall say where its results are."""

    def run(command: Callable[[], None], *argv: str) -> None:
        out, err = STREAMS[request.param](), STREAMS[request.param]()
        assert code_of(command, *argv, out=out, err=err) == 0
        assert not text_of(err)
        if (text := text_of(out)) is not None:
            assert FOLDER in text

    return run


def test_training(run: Callable[..., None]) -> None:
    run(cli.train_mt10, *TRAIN[:-1], f"--run-dir={FOLDER}")
    assert list(success_rates(Path(FOLDER))) == [10, 20, STEPS]
    run(cli.train_mt10, f"--run-dir={FOLDER}", "--resume")


def test_evaluations(run: Callable[..., None]) -> None:
    save_run(Path("trained"))
    argv = ("--run=trained", "--episodes=1", "--workers=0", f"--out={FOLDER}")
    run(cli.evaluate_mt10, *argv)
    assert (Path(FOLDER) / "evaluation.json").is_file()


def test_reports(run: Callable[..., None]) -> None:
    write_methods(Path("runs"), {"equal": 0.5}, seeds=[1])
    run(cli.report_mt10, "runs", "--resamples=10", f"--out={FOLDER}")
    assert (Path(FOLDER) / "index.html").is_file()
    run(cli.report_mt10, "--kernels", "runs/equal-seed1", f"--out={FOLDER}")


def test_sweeps(run: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTraining(tmp_path / "training")
    monkeypatch.setattr(
        sweep_module, "run_sweep", partial(sweep_module.run_sweep, train=fake.command)
    )
    argv = ("--methods=equal", f"--out={FOLDER}", *SETTINGS)
    run(cli.sweep_mt10, "--dry-run", *argv)
    run(cli.sweep_mt10, *argv)
    assert list(fake.events("ended")) == ["equal-seed1"]


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (cli.train_mt10, "--resume"),
        (cli.evaluate_mt10, "--run"),
        (cli.sweep_mt10, "--config"),
        (cli.report_mt10, "--kernels"),
    ],
)
def test_errors(kind: str, command: Callable[[], None], flag: str) -> None:
    out, err = STREAMS[kind](), STREAMS[kind]()
    assert code_of(command, f"{flag}={FOLDER}", out=out, err=err) == 2
    if (text := text_of(err)) is not None:
        assert text.count("\n") == 1
        assert text.startswith(f"{command.__name__}: error: ")


def test_no_file_takes_the_place_of_a_closed_stream() -> None:
    # A real process: what a shell closes, the system gives to the next file that is opened.
    program = (
        "import os; from mtrl_ntk import cli\n"
        "streams = [f'/dev/fd/{number}' for number in range(3)]\n"
        "cli._train = lambda *_: print([os.path.realpath(path) for path in streams], "
        "file=open('seen', 'w'))\n"
        "cli.train_mt10()"
    )
    shell = '"$0" -c "$1" <&- >&- 2>&-'
    command = ["sh", "-c", shell, sys.executable, program]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, check=False, env={"PYTHONPATH": str(root), "PATH": "/bin"})
    assert done.returncode == 0
    assert Path("seen").read_text() == f"{['/dev/null'] * 3}\n"
