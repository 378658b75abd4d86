"""A pool of jobs: a few at once, on any backend, ended together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence

from mtrl_ntk.experiment.sweeps.backends.job import Backend, Execution, Job

GRACE_S = 120.0
"""Time that jobs have to save their state before they are killed."""


class Pool:
    """Runs jobs, at most one per slot at a time; a context manager that leaves none running.

    Args:
        jobs: What to run, in this order.
        slots: For each job that may run at once, what it adds to the environment.
        backend: Where they run; closed at the end.
    """

    def __init__(
        self, jobs: Sequence[Job], slots: Sequence[Mapping[str, str]], backend: Backend
    ) -> None:
        self._backend = backend
        self._waiting = deque(jobs)
        self._free = deque(slots)
        self._submitted: dict[Job, tuple[Execution, Mapping[str, str]]] = {}

    def __enter__(self) -> Pool:
        """Returns the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stops what is still running."""
        try:
            self.stop()
        finally:
            self._backend.close()

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._waiting or self._submitted)

    def advance(self) -> tuple[list[Job], list[Job]]:
        """Submits what there is room for; returns what has ended and what was started since."""
        ended = self._take_back_ended()
        while self._free and self._waiting:
            job, slot = self._waiting.popleft(), self._free.popleft()
            self._submitted[job] = self._backend.submit(job, slot), slot
        started = [
            job
            for job, (execution, _) in self._submitted.items()
            if job.state == "waiting" and execution.has_started()
        ]
        for job in started:
            job.begin()
        return ended, started

    def _take_back_ended(self) -> list[Job]:
        endings = {job: execution.ending() for job, (execution, _) in self._submitted.items()}
        ended = []
        for job, ending in endings.items():
            if ending is not None:
                job.end(ending)
                self._free.append(self._submitted.pop(job)[1])
                ended.append(job)
        return ended

    def stop(self, grace: float = GRACE_S) -> None:
        """Asks all jobs to end, waits until they have, and kills those that do not."""
        for execution, _ in self._submitted.values():
            execution.interrupt()
        deadline = time.monotonic() + grace
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()

    def _alive(self) -> bool:
        return any(execution.ending() is None for execution, _ in self._submitted.values())

    def kill(self) -> None:
        """Ends all jobs at once."""
        for job, (execution, _) in self._submitted.items():
            execution.kill()
            if job.state == "running" and (ending := execution.ending()) is not None:
                job.end(ending)
                job.state = "stopped" if ending.exit_code else job.state
        self._submitted.clear()
