"""Jobs as processes of this machine."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from mtrl_ntk.experiment.sweeps.backends.job import Ending, Job, open_log


class Process:
    """A command that runs, in a session of its own: a Ctrl-C reaches it through its owner only.

    Args:
        command: Program and arguments.
        log: Where its output is added.
        environment: What its environment has besides this process's.

    Raises:
        UserError: If an earlier process with this log is still running.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        with open_log(log) as output:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            output.write(f"\n{now} $ {shlex.join(command)}\n".encode(errors="surrogateescape"))
            output.flush()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def has_started(self) -> bool:
        """Whether it runs, or ran."""
        return True

    def ending(self) -> Ending | None:
        """How it has ended; None while it runs."""
        code = self._process.poll()
        return None if code is None else Ending(code)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Asks the process to save its state and to end."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends the process, and those that it has started, at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class LocalBackend:
    """Runs jobs on this machine."""

    def submit(self, job: Job, slot: Mapping[str, str]) -> Process:
        """Starts a job."""
        return Process(job.command, job.log, slot)

    def close(self) -> None:
        """Has nothing to give back."""
