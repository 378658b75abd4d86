"""A few processes at once, none of which is left behind."""

from __future__ import annotations

import errno
import fcntl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.sweeps.backends.job import Ending, Job, open_log
from mtrl_ntk.experiment.sweeps.backends.local import LocalBackend
from mtrl_ntk.experiment.sweeps.pool import Pool

PATIENCE_S = 300.0

WAITS = "print('ready', flush=True); import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {WAITS}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {DEAF!r}]); {DEAF}"


def job(folder: Path, name: str, program: str) -> Job:
    return Job(name, [sys.executable, "-S", "-E", "-c", program], folder / f"{name}.log")


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def pool_of(jobs: Sequence[Job], slots: Sequence[Mapping[str, str]]) -> Pool:
    return Pool(jobs, slots, LocalBackend())


def run_to_the_end(pool: Pool) -> None:
    def is_over() -> bool:
        pool.advance()
        return not pool.busy

    wait_until(is_over)


def is_ready(log: Path, times: int = 1) -> bool:
    return log.read_text().split().count("ready") >= times


Children = Callable[[], list[psutil.Process]]


@pytest.fixture
def children() -> Children:
    """Lists the living processes below this one that the test started."""
    # Other tests leave helpers of multiprocessing behind, which live as long as this process.
    earlier = {child.pid for child in psutil.Process().children(recursive=True)}

    def living() -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process().children(recursive=True)
        return [
            child
            for child in found
            if child.pid not in earlier and child.status() != psutil.STATUS_ZOMBIE
        ]

    return living


def test_all_jobs_run_and_say_how_they_ended(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, f"job{code}", f"import sys; print('hello'); sys.exit({code})")
        for code in range(4)
    ]
    order: list[str] = []
    with pool_of(jobs, [{}, {}]) as pool:
        while pool.busy:
            ended, started = pool.advance()
            assert sum(each.state == "running" for each in jobs) <= 2
            order += [each.name for each in started]
            assert all(each.state in ("finished", "failed") for each in ended)
            time.sleep(0.01)
    assert order == [each.name for each in jobs]
    assert [each.ending for each in jobs] == [Ending(code) for code in range(4)]
    assert [each.state for each in jobs] == ["finished", "failed", "failed", "failed"]
    assert all("hello" in each.log.read_text() for each in jobs)
    assert all(0 < each.seconds < PATIENCE_S for each in jobs)


def test_jobs_at_the_same_time_are_in_different_slots(tmp_path: Path) -> None:
    show = "import os, time; time.sleep(0.1); print('slot', os.environ['SLOT'])"
    jobs = [job(tmp_path, f"job{number}", show) for number in range(2)]
    with pool_of(jobs, [{"SLOT": "a"}, {"SLOT": "b"}]) as pool:
        run_to_the_end(pool)
    assert [each.log.read_text().split()[-1] for each in jobs] == ["a", "b"]


def test_a_log_keeps_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("before\n")
    with pool_of([job(tmp_path, "a", "print('after')")], [{}]) as pool:
        run_to_the_end(pool)
    lines = (tmp_path / "a.log").read_text().split("\n")
    assert (lines[0], lines[-2]) == ("before", "after")


def test_nothing_outlives_the_pool(tmp_path: Path, children: Children) -> None:
    jobs = [job(tmp_path, "a", WAITS), job(tmp_path, "b", WAITS), job(tmp_path, "c", WAITS)]

    def fail_meanwhile() -> None:
        with pool_of(jobs, [{}, {}]) as pool:
            pool.advance()
            wait_until(lambda: all(is_ready(each.log) for each in jobs[:2]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_meanwhile()
    assert [each.state for each in jobs] == ["stopped", "stopped", "waiting"]
    assert "KeyboardInterrupt" in jobs[0].log.read_text()  # asked, not killed
    assert children() == []


def test_the_deaf_are_killed_with_their_children(tmp_path: Path, children: Children) -> None:
    deaf = job(tmp_path, "deaf", PARENT)
    with pool_of([deaf], [{}]) as pool:
        pool.advance()
        wait_until(lambda: is_ready(deaf.log, times=2))
        assert len(children()) == 2
        pool.stop(grace=0.2)
        wait_until(lambda: children() == [])
    assert (deaf.state, deaf.ending) == ("stopped", Ending(-9))


def test_two_processes_never_share_a_log(tmp_path: Path) -> None:
    first, second = job(tmp_path, "a", WAITS), job(tmp_path, "a", WAITS)
    with pool_of([first], [{}]) as pool:
        pool.advance()
        with pytest.raises(UserError, match="a is still being trained by a process of another"):
            LocalBackend().submit(second, {})
    open_log(first.log).close()


@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_trains_all_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(getattr(errno, name), "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with open_log(tmp_path / "a.log") as log:
        log.write(b"written")
    assert (tmp_path / "a.log").read_bytes() == b"written"


def test_a_log_that_cannot_be_locked_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"cannot lock .*: Input/output error; choose another"):
        open_log(tmp_path / "a.log")


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*; choose another --out"):
        open_log(tmp_path / "file" / "a.log")
