"""Jobs under Slurm, through submitit; needs the extra ``slurm``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import submitit
from submitit.core.job_environment import JobEnvironment
from submitit.helpers import DelayedSubmission

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.sweeps.backends.job import Ending, Job
from mtrl_ntk.experiment.sweeps.backends.local import Process
from mtrl_ntk.experiment.sweeps.options import Resources

FOLDER = "slurm"
"""Folder of what submitit writes, within that of the logs."""

_SAVING_S = 120
"""Seconds before the end of a job's time at which it is told to save."""
_MOST_TIMEOUTS = 1_000
"""How often a job may run out of its time and be queued again."""
_POLL_S = 0.1
_PREEMPTION = "USR1"
"""The signal at which runs save their state; submitit's own choice would end them."""


class SlurmBackend:
    """Runs jobs under Slurm, which needs the folder and Python of the sweep on its nodes.

    Before a job's time is over, or when it is preempted, Slurm sends SIGUSR1: the run saves its
    state, and the job is queued again and goes on from there.

    Args:
        resources: What each job needs.
        logs: Folder of the jobs' logs.
        cluster: ``slurm``; tests have submitit's ``local``.

    Raises:
        UserError: If there is no Slurm here, or it does not know such resources.
    """

    def __init__(self, resources: Resources, logs: Path, cluster: str = "slurm") -> None:
        self._resources = resources
        # Here it has been imported, on the nodes it is going to be.
        JobEnvironment.USR_SIG = os.environ["SUBMITIT_PREEMPT_SIGNAL"] = _PREEMPTION
        try:
            self._executor = submitit.AutoExecutor(
                logs / FOLDER / "%j", cluster=cluster, slurm_max_num_timeout=_MOST_TIMEOUTS
            )
        except RuntimeError as error:
            raise UserError(
                f"there is no Slurm here ({error}); --backend slurm is for the login node of a "
                "cluster, and --backend local for this machine"
            ) from None

    def submit(self, job: Job, slot: Mapping[str, str]) -> _SlurmExecution:
        """Queues a job.

        Raises:
            UserError: If Slurm refuses it.
        """
        wanted = self._resources
        self._executor.update_parameters(
            name=job.name,
            cpus_per_task=wanted.cpus,
            gpus_per_node=wanted.gpus or None,
            mem_gb=wanted.mem or None,
            timeout_min=wanted.minutes,
            slurm_partition=wanted.partition,
            slurm_signal_delay_s=min(_SAVING_S, wanted.minutes * 60 // 2),
            stderr_to_stdout=True,
            slurm_additional_parameters={"requeue": True},
            slurm_setup=[f"export SUBMITIT_PREEMPT_SIGNAL={_PREEMPTION}"],
        )
        training = SlurmTraining(job, dict(slot), os.getcwd())
        training.stop_file.unlink(missing_ok=True)
        try:
            return _SlurmExecution(self._executor.submit(training), training.stop_file)
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"Slurm refuses the job: {error}") from None

    def close(self) -> None:
        """Has nothing to give back."""


@dataclass(frozen=True)
class SlurmTraining:
    """What runs on a node: a job's process, and what becomes of the signals that reach it."""

    job: Job
    slot: dict[str, str]
    folder: str
    """Working directory."""

    @property
    def stop_file(self) -> Path:
        """A file that asks the job to save its state and to end, through the shared folder."""
        return self.job.log.with_suffix(".stop").absolute()

    def __call__(self) -> Ending:
        """Runs the job to its end, or until it has saved its state."""
        os.chdir(self.folder)
        process = Process(self.job.command, self.job.log, self.slot)
        with _FirstSignal() as first:
            ending = self._wait(process, first)
        if ending.exit_code == 128 + signal.SIGUSR1:
            # The handler is submitit's again: it queues the job again and ends this process.
            signal.raise_signal(signal.SIGUSR1)
        while ending.exit_code == 128 + signal.SIGTERM:
            # Slurm queues a preempted job again by itself, but only if it has not ended by itself.
            signal.pause()
        return ending

    def _wait(self, process: Process, first: _FirstSignal) -> Ending:
        asked = False
        while (ending := process.ending()) is None:
            number = signal.SIGINT if self.stop_file.exists() else first.received
            if number and not asked:
                asked = True
                process.interrupt(number)
            time.sleep(_POLL_S)
        return ending

    def checkpoint(self) -> DelayedSubmission:
        """What submitit queues again: the run has saved its state by then."""
        return DelayedSubmission(self)


class _FirstSignal:
    """Remembers the first signal that asks to end; a context manager.

    Slurm may send several, SIGTERM before SIGUSR1, and a run ends without saving at its second.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _FirstSignal:
        asking = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        self._before = {number: signal.signal(number, self._receive) for number in asking}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = self.received or number


class _SlurmExecution:
    def __init__(self, job: submitit.Job[Ending], stop_file: Path) -> None:
        self._job, self._stop_file = job, stop_file
        self._ending: Ending | None = None

    def has_started(self) -> bool:
        return self._ending is not None or self._job.paths.stdout.exists()

    def ending(self) -> Ending | None:
        if self._ending is None and self._job.done():
            self._ending = self._outcome()
        return self._ending

    def _outcome(self) -> Ending:
        try:
            return self._job.result()
        except submitit.core.utils.UncompletedJobError:
            seen = f"ended as {self._job.state}; what Slurm printed: {self._job.paths.stdout}"
            return Ending(1, seen)

    def interrupt(self) -> None:
        if self.has_started():
            self._stop_file.touch()
        else:
            self.kill()

    def kill(self) -> None:
        if self.ending() is None:
            self._job.cancel(check=False)
            self._ending = Ending(-signal.SIGKILL)
