"""What a sweep knows of one of its runs, wherever the run is trained."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.lock import NO_LOCKS

State = Literal["waiting", "running", "finished", "failed", "stopped"]


class Ending(NamedTuple):
    """How a job has ended."""

    exit_code: int
    """What its process ended with; negative for the number of the signal that ended it."""
    reason: str = ""
    """What has become of it, where no process could end by itself."""


@dataclass(eq=False)
class Job:
    """A command and what became of it."""

    name: str
    """What people know it by."""
    command: Sequence[str]
    """Program and arguments."""
    log: Path
    """Where its output is added."""
    state: State = "waiting"
    """How far it is."""
    ending: Ending | None = None
    """How it has ended, if it has."""
    _started: float = 0.0
    _seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        return time.monotonic() - self._started if self.state == "running" else self._seconds

    def begin(self) -> None:
        """Takes note that it runs."""
        self.state, self._started = "running", time.monotonic()

    def end(self, ending: Ending) -> None:
        """Takes note of how it has ended."""
        self._seconds, self.ending = self.seconds, ending
        self.state = "failed" if ending.exit_code else "finished"


class Execution(Protocol):
    """A job in the hands of a backend."""

    def has_started(self) -> bool:
        """Whether it runs, or ran; until then it waits in a queue."""
        ...

    def ending(self) -> Ending | None:
        """How it has ended; None while it has not."""
        ...

    def interrupt(self) -> None:
        """Asks it to save its state and to end; one that still waits is taken back."""
        ...

    def kill(self) -> None:
        """Ends it at once, and what it has started."""
        ...


class Backend(Protocol):
    """Where jobs run."""

    def submit(self, job: Job, slot: Mapping[str, str]) -> Execution:
        """Takes on a job.

        Args:
            job: The job.
            slot: What the environment gets besides.

        Raises:
            UserError: If the job cannot run there.
        """
        ...

    def close(self) -> None:
        """Gives back what the backend holds, when no job runs any more."""
        ...


def open_log(path: Path) -> IO[bytes]:
    """Opens a log to add to it, locked for as long as the file, or a process's copy of it, is open.

    The lock outlives a sweep that was killed, but not the processes that it has left behind. On a
    file system without locks there is only the one that each run has on its own folder.

    Raises:
        UserError: If another process has locked it, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --out") from None
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.close()
        raise UserError(
            f"{path.stem} is still being trained by a process of another sweep, or of one that was "
            f"killed, which writes to {path}; wait for its end, or end it"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            log.close()
            raise UserError(f"cannot lock {path}: {error.strerror}; choose another --out") from None
    return log
