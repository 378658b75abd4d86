"""One process at a time trains in a folder; the others are told which one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtrl_ntk.cli import train_mt10
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.layout import LOCK
from mtrl_ntk.experiment.files.lock import RunLock

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from mtrl_ntk.experiment.files.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held_by_another_process(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(run_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_process_is_refused_until_the_first_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    with held_by_another_process(run_dir) as holder:
        before = contents(run_dir)
        for argv in (["--run-dir", str(run_dir)], ["--run-dir", str(run_dir), "--resume"]):
            monkeypatch.setattr(sys, "argv", ["train_mt10", *argv])
            with pytest.raises(SystemExit) as end:
                train_mt10()
            assert end.value.code == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert f"{run_dir} is being trained by process {holder.pid};" in error
        assert contents(run_dir) == before
        holder.kill()
        holder.wait()
        with RunLock(run_dir):
            pass


def test_the_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with RunLock(tmp_path) as lock:
            lock.take()
            assert (tmp_path / LOCK).exists()
            with pytest.raises(UserError, match="is being trained by process"):
                RunLock(tmp_path).take()
        assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_only_when_it_is_asked_for(tmp_path: Path) -> None:
    with RunLock(tmp_path / "a" / "run") as lock:
        assert not (tmp_path / "a").exists()
        lock.take()
        assert (tmp_path / "a" / "run" / LOCK).exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the run's folder .*; choose --run-dir"):
        RunLock(tmp_path / "file" / "run").take()
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UserError, match=r"cannot write the run's folder .*; choose --run-dir"):
        RunLock(tmp_path).take()


def test_what_a_killed_holder_has_left_says_nothing_false(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("123\n")
    with RunLock(tmp_path):
        assert (tmp_path / LOCK).read_text() != "123\n"
