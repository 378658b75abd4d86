"""A lock on a run's folder, so that one process at a time trains there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.layout import LOCK

_PATIENCE_S = 0.3
"""How long a holder that is just about to end is waited for."""


class RunLock:
    """Keeps other processes from training in a folder; a context manager that lets it go.

    The operating system holds the lock: it is free as soon as its holder has ended, killed or not.
    Reading a run needs none.

    Args:
        run_dir: Folder of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / LOCK
        self._lock = FileLock(self._path, timeout=_PATIENCE_S)

    def __enter__(self) -> RunLock:
        """Takes the lock if there is a folder: a run that cannot start shall not make one."""
        if self._run_dir.is_dir():
            self.take()
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the lock."""
        if self._lock.is_locked:
            # While it is held: whoever waits for it sees that the file has gone, and makes another.
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._lock.release()

    def take(self) -> None:
        """Takes the lock, unless it is taken already, and makes the folder if needed.

        Raises:
            UserError: If another process trains in the folder, or it cannot be written.
        """
        if self._lock.is_locked:
            return
        try:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise UserError(
                f"{self._run_dir} is being trained by {self._holder()}; wait for its end, or end "
                "it, or choose another --run-dir"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write the run's folder {self._run_dir}: {error.strerror}; choose --run-dir"
            ) from error
        # For people only, so that a full disk is no reason not to start.
        with contextlib.suppress(OSError):
            self._path.write_text(f"{os.getpid()}\n", encoding="utf-8")

    def _holder(self) -> str:
        try:
            pid = self._path.read_text(encoding="utf-8").strip()
        except OSError:
            pid = ""
        return f"process {pid}" if pid else "another process"
