"""A lock on a run's folder, so that one process at a time trains there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.layout import LOCK, remove_failed_start, written_at_start

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""What a file system answers that cannot lock files, as some network drives cannot."""
_PATIENCE_S = 0.3
"""How long a holder that is just about to end is waited for."""


class RunLock:
    """Keeps other processes from training in a folder; a context manager that lets it go.

    The operating system holds the lock: it is free as soon as its holder has ended, killed or not.
    On a file system without locks, the name of a file says which process trains; on this machine
    it counts for nothing when that process has ended. Reading a run needs no lock.

    What a start has written is removed if no run came of it.

    Args:
        run_dir: Folder of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / LOCK
        self._lock = FileLock(self._path, timeout=_PATIENCE_S, fallback_to_soft=False)
        self._owner = _OwnerFile(self._path)
        self._made: list[Path] = []
        self._before: set[Path] = set()

    def __enter__(self) -> RunLock:
        """Takes the lock if there is a folder: a run that cannot start shall not make one."""
        if self._run_dir.is_dir():
            self.take()
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the lock, and a folder that was made in vain."""
        if self._is_held:
            remove_failed_start(self._run_dir, self._before)
            # While it is held: whoever waits for it sees that the file has gone, and makes another.
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._owner.release()
            self._lock.release()
        self._remove_made()

    @property
    def _is_held(self) -> bool:
        return self._lock.is_locked or self._owner.is_held

    def take(self) -> None:
        """Takes the lock, unless it is taken already, and makes the folder if needed.

        Raises:
            UserError: If another process trains in the folder, or it cannot be written.
        """
        if self._is_held:
            return
        folders = (self._run_dir, *self._run_dir.parents)
        self._made = [folder for folder in folders if not folder.exists()]
        try:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            self._acquire()
        except Timeout:
            raise UserError(
                f"{self._run_dir} is being trained by {self._holder()}; wait for its end, or end "
                "it, or choose another --run-dir"
            ) from None
        except OSError as error:
            self._remove_made()
            raise UserError(
                f"cannot write the run's folder {self._run_dir}: {error.strerror}; choose --run-dir"
            ) from error
        self._before = written_at_start(self._run_dir)

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if self._path.exists() and self._path.stat().st_size > 0:  # from when there were locks
                raise UserError(
                    f"{self._run_dir} cannot be locked: {error.strerror}; if no process trains in "
                    f"it, remove {self._path}"
                ) from error
            self._owner.acquire()
            return
        if self._owner.others():  # one that the file system had no lock for
            self._lock.release()
            raise Timeout(str(self._path))
        # For people only, so that a full disk is no reason not to start.
        with contextlib.suppress(OSError):
            self._path.write_text(f"{os.getpid()}\n", encoding="utf-8")

    def _holder(self) -> str:
        if others := self._owner.others():
            return " and ".join(others)
        try:
            pid = self._path.read_text(encoding="utf-8").strip()
        except OSError:
            pid = ""
        return f"process {pid}" if pid else "another process"

    def _remove_made(self) -> None:
        for folder in self._made:
            with contextlib.suppress(OSError):  # somebody has put something there
                folder.rmdir()


class _OwnerFile:
    """Stands in for a lock: each process that wants it makes a file of its own, then looks around.

    Of two that come at the same time, both may give up; never do both go on.

    Args:
        path: What the names of the files begin with.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        started = int(psutil.Process().create_time())
        self._own = path.with_name(f"{path.name}.{os.getpid()}.{started}.{socket.gethostname()}")
        self.is_held = False

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            Timeout: If another has it.
            OSError: If the file cannot be made.
        """
        try:
            self._own.touch(exist_ok=False)
        except FileExistsError:
            raise Timeout(str(self._path)) from None
        self.is_held = True
        if self.others():
            self.release()
            raise Timeout(str(self._path))

    def release(self) -> None:
        """Gives the lock back."""
        if self.is_held:
            self.is_held = False
            with contextlib.suppress(OSError):
                self._own.unlink()

    def others(self) -> list[str]:
        """The other processes that have the lock, in words; what killed ones have left goes."""
        found = []
        for path in self._path.parent.iterdir():
            match = _OWNER.fullmatch(path.name)
            if match is None or (path == self._own and self.is_held):
                continue
            pid, started, host = match.groups()
            if host != socket.gethostname():
                found.append(f"process {pid} on {host} (if that has ended, remove {path})")
            elif _is_alive(int(pid), int(started)):
                found.append(f"process {pid}")
            else:
                path.unlink(missing_ok=True)
        return found


_OWNER = re.compile(rf"{re.escape(LOCK)}\.(\d+)\.(\d+)\.(.+)")
_SAME_START_S = 60
"""By how much two readings of when a process has started may differ, as clocks are set."""


def _is_alive(pid: int, started: int) -> bool:
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) < _SAME_START_S
        return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
