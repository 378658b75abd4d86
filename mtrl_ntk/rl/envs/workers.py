"""A pool of processes that step environments, in which a lost one is replaced.

A worker that dies, raises or gives no sign of life is killed, and a new one goes where the lost one
was before the command, by the histories that its parent keeps. Then it gets the command again. So
nothing is lost, and all results are those that there would have been.

Where the same environment is at work twice while a step fails, the step itself is to blame: its
episode is given up as one with a broken simulation is, and the next one begins.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import Any, NoReturn

from numpy.typing import NDArray

from mtrl_ntk.errors import RunFailed
from mtrl_ntk.rl.envs.bundle import Arguments, BundleSpec
from mtrl_ntk.rl.envs.process import (
    STEP,
    SharedArrays,
    Worker,
    call_command,
    go_to_command,
    reset_command,
    starts_afresh,
    step_command,
)

_START_TIMEOUT_S = 300.0
"""Patience with a process that starts: a network drive may take long to load the libraries."""
_CLOSE_TIMEOUT_S = 5.0
_LONGEST_WAIT_S = 1.0
"""A wait counts as no more than this, so that a suspended computer makes nobody late."""


class WorkerError(RunFailed, RuntimeError):
    """Environment workers were lost more often than allowed, or cannot be started."""


@dataclass(frozen=True)
class RestartRules:
    """When a worker counts as lost, and how often that may happen.

    Attributes:
        timeout: Seconds without a sign of life that a step, or one reset, may take.
        restarts: Restarts that are allowed within a window; one more is a ``WorkerError``.
        window: Vector steps.
    """

    timeout: float = 30.0
    restarts: int = 5
    window: int = 1000


class _Restarts:
    """Counts restarts, and says when there were too many of late."""

    def __init__(self, rules: RestartRules) -> None:
        self._rules = rules
        self._recent = deque[int]()
        self.total = 0

    def add(self, step: int) -> bool:
        """Counts one more at a vector step, if it is allowed; returns whether it is."""
        while self._recent and self._recent[0] <= step - self._rules.window:
            self._recent.popleft()
        if len(self._recent) >= self._rules.restarts:
            return False
        self._recent.append(step)
        self.total += 1
        return True


class WorkerPool:
    """Worker processes that step bundles over shared memory.

    Each step costs one byte to and one from each worker. Workers ignore interrupts, since the
    parent decides when they end, and end by themselves when the parent is gone.

    After a ``WorkerError`` in a step, records hold its actions and histories are those before
    it, so that it can be taken again elsewhere.

    Args:
        spec: All environments of the vector environment.
        workers: Number of processes, at least 1; more than there are environments are not started.
        rules: When and how often lost workers are replaced.
        report: Told of each restart, in one line.

    """

    def __init__(
        self,
        spec: BundleSpec,
        workers: int,
        rules: RestartRules | None = None,
        report: Callable[[str], object] = warnings.warn,
    ) -> None:
        self._spec, self._seed = spec, spec.seed
        self._rules = RestartRules() if rules is None else rules
        self._report = report
        self._command: bytes | None = None
        self._steps = 0
        self._restarts = _Restarts(self._rules)
        self._blamed = Counter[int]()
        self._given_up: list[int] = []
        self._skipped: Collection[int] = ()
        self._error: WorkerError | None = None
        arrays = SharedArrays.allocate(spec)
        self.records, self.histories = arrays.records, arrays.histories
        self._workers: list[Worker] = []
        # At exit, multiprocessing would send a SIGTERM that workers ignore, and wait for ever; a
        # finalizer with a priority runs before that.
        self._close = Finalize(self, _close_workers, (self._workers,), exitpriority=10)
        try:
            for index, rows in enumerate(assign_rows(spec, workers)):
                worker = Worker(f"environment worker {index} ({_tasks(spec, rows)})", arrays, rows)
                worker.start(spec)
                self._workers.append(worker)
            self._wait_for_all()
        except BaseException:
            self.close()
            raise

    @property
    def restarts(self) -> int:
        """How often a worker was replaced."""
        return self._restarts.total

    def reset(self, seed: int | None = None, rows: Collection[int] = ()) -> None:
        """Starts new episodes, in all rows if none are named; a seed restarts every stream."""
        self._send_to_all(reset_command(seed, rows))
        self._wait_for_all()
        self._seed = self._seed if seed is None else seed

    def go_to(self, seed: int) -> None:
        """Puts all rows where their histories say, under a seed."""
        self._send_to_all(go_to_command(seed))
        self._wait_for_all()
        self._seed = seed

    def step_async(self, skipped: Collection[int] = ()) -> None:
        """Tells the workers to step, and returns at once."""
        self._steps += 1
        self._skipped = skipped
        self._send_to_all(step_command(skipped))

    def step_wait(self) -> None:
        """Returns when all workers have stepped."""
        self._wait_for_all()

    def call(self, method: str, arguments: Mapping[int, Arguments]) -> dict[int, Any]:
        """Calls a method in some rows."""
        self._send_to_all(call_command(method, arguments))
        self._wait_for_all()
        results: dict[int, Any] = {}
        for worker in self._workers:
            if isinstance(worker.results, Exception):
                raise worker.results
            results |= worker.results
        return results

    def close(self) -> None:
        """Ends the workers, by force after a few seconds; may be called twice."""
        self._close()

    def _send_to_all(self, command: bytes) -> None:
        if self._error is not None:
            raise self._error
        self._command = command
        self._blamed.clear()
        self._given_up.clear()
        for worker in self._workers:
            worker.send(command)

    def _wait_for_all(self) -> None:
        if self._error is not None:
            raise self._error
        # What is owed is kept by the workers: after an interrupt the wait can be taken up again.
        while waiting := [worker for worker in self._workers if worker.owed]:
            start = time.monotonic()
            ready = wait([worker.connection for worker in waiting], self._longest_wait)
            waited = min(time.monotonic() - start, self._longest_wait)
            for worker in waiting:
                if worker.connection in ready:
                    failure = worker.receive()
                else:
                    failure = self._lateness(worker, waited)
                if failure is not None:
                    self._replace(worker, failure)

    @property
    def _longest_wait(self) -> float:
        return min(_LONGEST_WAIT_S, self._rules.timeout)

    def _lateness(self, worker: Worker, waited: float) -> str | None:
        worker.silence += waited
        timeout = self._rules.timeout if worker.is_ready else _START_TIMEOUT_S
        return f"gave no sign of life for {timeout:g} s" if worker.silence >= timeout else None

    def _replace(self, worker: Worker, failure: str) -> None:
        """Lets a new process take up the command where the lost one has left it."""
        worker.kill()
        raised_at_once = self._command is None and failure.startswith("failed")
        failure = f"{worker.name} {failure}"
        if raised_at_once:
            self._fail(failure)  # it would again
        if not self._restarts.add(self._steps):
            self._fail(
                f"{failure}, after {self._rules.restarts} restarts of workers within "
                f"{self._rules.window} steps"
            )
        given_up = self._give_up_episodes(worker)
        try:
            worker.start(replace(self._spec, seed=self._seed))
        except OSError as error:
            self._fail(f"{failure}, and cannot be restarted: {error}")
        for command in self._commands_again():
            worker.send(command)
        consequence = f"the episode of {given_up} is given up" if given_up else "nothing is lost"
        self._report(
            f"{failure}; restarted (restart {self.restarts} of this process), {consequence}"
        )

    def _give_up_episodes(self, worker: Worker) -> str:
        """Ends the episode that has been at work in two failures of one step; returns its task."""
        busy = [row for row in worker.rows if self.records["busy"][row]]
        self.records["busy"][worker.rows] = False
        if self._command is None or not self._command.startswith(STEP):
            return ""
        self._blamed.update(busy)
        given_up = [row for row in busy if self._blamed[row] == 2]
        for row in given_up:
            end_episode(self.records[row], self.histories[row])
        self._given_up += given_up
        return _tasks(self._spec, given_up)

    def _commands_again(self) -> list[bytes]:
        """What leads a new process to the end of the present command."""
        if self._command is None:
            return []
        if self._command.startswith(STEP):
            go_to = go_to_command(self._seed, self._given_up)
            return [go_to, step_command([*self._skipped, *self._given_up])]
        # Before the first reset there is nowhere to go.
        if starts_afresh(self._command) or not self.histories["episodes"].any():
            return [self._command]
        return [go_to_command(self._seed), self._command]

    def _fail(self, text: str) -> NoReturn:
        self._error = WorkerError(text)
        raise self._error


def end_episode(record: NDArray[Any], history: NDArray[Any]) -> None:
    """Makes a row that of a broken step: not to be learnt from, and the last of its episode.

    Args:
        record: The row before the step, changed.
        history: Where its environment was before the step.
    """
    if history["length"] == 0:
        record["success"] = record["episode_return"] = 0.0
    record["final_observation"] = record["observation"]
    record["reward"] = 0.0
    record["episode_length"] = history["length"] + 1
    record["terminated"] = record["valid"] = False
    record["truncated"] = True


def assign_rows(spec: BundleSpec, workers: int) -> list[list[int]]:
    """Deals the rows out so that workers take about equally long: the dearest to the least loaded.

    Returns:
        The rows of each worker, ascending; no worker without rows.
    """
    costs = [spec.suite.step_cost(task) for task in spec.tasks]
    rows_by_cost = sorted(range(spec.num_envs), key=lambda row: -costs[row // spec.copies])
    assigned: list[list[int]] = [[] for _ in range(min(workers, spec.num_envs))]
    loads = [0.0] * len(assigned)
    for row in rows_by_cost:
        worker = loads.index(min(loads))
        assigned[worker].append(row)
        loads[worker] += costs[row // spec.copies]
    return [sorted(rows) for rows in assigned]


def _tasks(spec: BundleSpec, rows: Sequence[int]) -> str:
    return ", ".join(dict.fromkeys(spec.tasks[row // spec.copies] for row in rows))


def _close_workers(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.ask_to_end()
    deadline = time.monotonic() + _CLOSE_TIMEOUT_S
    for worker in workers:
        worker.kill(patience=max(0.0, deadline - time.monotonic()))
