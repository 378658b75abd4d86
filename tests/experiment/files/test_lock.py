"""One process at a time trains in a folder; the others are told which one."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtrl_ntk.cli import train_mt10
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.layout import LOCK, TRAINING_CSV
from mtrl_ntk.experiment.files.lock import RunLock

ROOT = Path(__file__).parents[3]
HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path
def refuse(*_):
    raise OSError(getattr(errno, sys.argv[2]), "no locks here")
if sys.argv[2]:
    fcntl.flock = refuse
from mtrl_ntk.experiment.files.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held_by_another_process(run_dir: Path, no_locks: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(run_dir), no_locks]
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


def without_locks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Has the file system answer as one that cannot lock files."""

    def flock(*_: object) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(fcntl, "flock", flock)


NAMES = ("ENOSYS", "ENOLCK", "EOPNOTSUPP")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_system_without_locks_has_owners(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch, name)
    with held_by_another_process(tmp_path, name) as holder:
        with pytest.raises(UserError, match=f"is being trained by process {holder.pid};"):
            RunLock(tmp_path).take()
        holder.kill()
        holder.wait()
        taken = pytest.raises(UserError, match=f"is being trained by process {os.getpid()};")
        with RunLock(tmp_path), taken:
            RunLock(tmp_path).take()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_is_seen_by_those_that_get_a_lock(tmp_path: Path) -> None:
    with held_by_another_process(tmp_path, "ENOLCK") as holder:
        for _ in range(2):
            with pytest.raises(UserError, match=f"is being trained by process {holder.pid};"):
                RunLock(tmp_path).take()


def test_a_lock_is_seen_by_those_that_get_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch, "ENOLCK")
    refused = pytest.raises(UserError, match="cannot be locked: No locks available; if no process")
    with held_by_another_process(tmp_path), refused:
        RunLock(tmp_path).take()


def test_an_owner_elsewhere_may_be_alive(tmp_path: Path) -> None:
    (tmp_path / f"{LOCK}.1.1.elsewhere.org").touch()
    (tmp_path / f"{LOCK}.bak").touch()
    with pytest.raises(UserError, match=r"process 1 on elsewhere.org \(if that has ended, remove"):
        RunLock(tmp_path).take()


def test_an_owner_whose_number_went_to_another_process_is_gone(tmp_path: Path) -> None:
    stale = tmp_path / f"{LOCK}.{os.getpid()}.1.{socket.gethostname()}"
    stale.touch()
    with RunLock(tmp_path):
        assert not stale.exists()


def fail_to_start(run_dir: Path) -> None:
    with RunLock(run_dir) as lock:
        lock.take()
        (run_dir / TRAINING_CSV).touch()
        raise ZeroDivisionError


@pytest.mark.parametrize("name", ["", *NAMES])
def test_a_start_that_fails_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name:
        without_locks(monkeypatch, name)
    for run_dir in (tmp_path / "a" / "run", tmp_path / "b"):
        with pytest.raises(ZeroDivisionError):
            fail_to_start(run_dir)
    assert list(tmp_path.iterdir()) == []
