"""A train_mt10 in a process of its own, for programs that disturb it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = "from mtrl_ntk.cli import train_mt10; train_mt10()"
_MARK = "MTRL_NTK_SOAK"
_SHARED_MEMORY = Path("/dev/shm")
_END_TIMEOUT_S = 300.0


class Training:
    """The processes of a run, which may be started again and again until it is complete.

    Args:
        run_dir: Folder of the run.
        flags: Options of ``train_mt10``, by name.
        temporary: Folder that stands for the system's one of temporary files.

    Attributes:
        faults: How often each thing has happened to it; counted by others.
        memory: For each process of the run in turn, times in seconds and resident bytes of the main
            process.
    """

    def __init__(self, run_dir: Path, flags: Mapping[str, object], temporary: Path) -> None:
        self.run_dir, self.log = run_dir, run_dir.with_suffix(".log")
        self.faults = Counter[str]()
        self.memory: list[list[tuple[float, int]]] = []
        texts = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        self._command = [sys.executable, "-c", _PROGRAM, *texts]
        self._command += ["--run-dir", str(run_dir), "--resume"]
        self._mark = str(run_dir)
        self._environment = {**os.environ, "TMPDIR": str(temporary), _MARK: self._mark}

    def start(self) -> None:
        """Starts it, or goes on with it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.main = psutil.Process(self._process.pid)
        self.memory.append([])

    def poll(self) -> int | None:
        """Its exit code if it has ended; otherwise looks at its memory."""
        code = self._process.poll()
        if code is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.memory[-1].append((time.monotonic(), self.main.memory_info().rss))
        return code

    def wait(self, timeout: float = _END_TIMEOUT_S) -> int:
        """Its exit code, when it has ended."""
        return self._process.wait(timeout)

    def workers(self) -> list[psutil.Process]:
        """Its environment workers, in no special order."""
        try:
            children = self.main.children()
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if "spawn_main" in _command_line(child)]

    def left_processes(self, patience: float = 60.0) -> list[int]:
        """Process ids of what lives on after its end.

        A worker that is just being started sees only when its libraries are loaded that nobody
        waits for it, which on a busy machine takes long.
        """
        deadline = time.monotonic() + patience
        while (left := list(self._marked())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def _marked(self) -> Iterator[int]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark:
                    yield process.pid

    def end(self) -> None:
        """Ends all that is left of it."""
        for pid in self._marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def last_words(self, lines: int = 5) -> str:
        """The end of what it has printed."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def _command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def has_begun(worker: psutil.Process) -> bool:
    """Whether an environment worker ends with its parent and ignores interrupts by now.

    Before, while its libraries are loaded, it is a process like any other.
    """
    try:
        status = Path(f"/proc/{worker.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(ignored, 16) >> (signal.SIGUSR1 - 1) & 1)


def shared_memory() -> set[str]:
    """Names of what processes have left in shared memory, where there is a folder of it."""
    return set(os.listdir(_SHARED_MEMORY)) if _SHARED_MEMORY.is_dir() else set()


def slope(samples: list[tuple[float, int]], settled_after: float = 60.0) -> float | None:
    """Growth of memory in MB per hour, by least squares; None where too short a time was seen.

    Args:
        samples: Times in seconds, and bytes.
        settled_after: Seconds of the beginning that are left out, at least; a third always is.
    """
    if not samples:
        return None
    begin, end = samples[0][0], samples[-1][0]
    settled = begin + max(settled_after, (end - begin) / 3)
    kept = [(time, size) for time, size in samples if time >= settled]
    if end - settled < settled_after:
        return None
    mean_time = sum(time for time, _ in kept) / len(kept)
    mean_size = sum(size for _, size in kept) / len(kept)
    covariance = sum((time - mean_time) * (size - mean_size) for time, size in kept)
    return covariance / sum((time - mean_time) ** 2 for time, _ in kept) * 3600 / 1e6
