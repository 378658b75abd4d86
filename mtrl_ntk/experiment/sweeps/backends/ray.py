"""Jobs on a Ray cluster, each in an actor that holds its process; needs the extra ``ray``."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.sweeps.backends.job import Ending, Job
from mtrl_ntk.experiment.sweeps.backends.local import Process
from mtrl_ntk.experiment.sweeps.options import Resources


class RayBackend:
    """Runs jobs on the cluster that RAY_ADDRESS names, else on one of this machine.

    Folder and Python of the sweep must be there on every node of the cluster.

    Args:
        resources: What each job needs.

    Raises:
        UserError: If the cluster does not answer, or no node of it has that much.
    """

    def __init__(self, resources: Resources) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"Ray cannot be reached or started: {error}") from None
        wanted: dict[str, float] = {"CPU": resources.cpus, "GPU": resources.gpus}
        wanted["memory"] = resources.mem * 2**30
        if not any(_fits(node, wanted) for node in ray.nodes()):  # type: ignore[no-untyped-call]
            ray.shutdown()
            raise UserError(
                f"no node of the Ray cluster has {resources}; ask for less with --cpus, --gpus or "
                "--mem, or set RAY_ADDRESS to another cluster"
            )
        self._actor: Any = ray.remote(_Holder).options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, memory=wanted["memory"] or None
        )

    def submit(self, job: Job, slot: Mapping[str, str]) -> _RayExecution:
        """Takes on a job, which waits until the cluster has room for it."""
        return _RayExecution(self._actor.remote(), job, slot)

    def close(self) -> None:
        """Leaves the cluster; one that was started for the sweep ends."""
        ray.shutdown()


def _fits(node: Mapping[str, Any], wanted: Mapping[str, float]) -> bool:
    has = node["Resources"]
    return bool(node["Alive"]) and all(has.get(name, 0) >= much for name, much in wanted.items())


class _RayExecution:
    def __init__(self, actor: Any, job: Job, slot: Mapping[str, str]) -> None:  # noqa: ANN401
        self._actor = actor
        arguments = (list(job.command), job.log.absolute(), dict(slot), os.getcwd())
        self._start = actor.start.remote(*arguments)
        self._ending: Ending | None = None

    def has_started(self) -> bool:
        return self._ending is not None or bool(ray.wait([self._start], timeout=0)[0])

    def ending(self) -> Ending | None:
        if self._ending is None and self.has_started():
            self._ending = self._ask()
            if self._ending is not None:
                ray.kill(self._actor)  # and so gives its share of the cluster back
        return self._ending

    def _ask(self) -> Ending | None:
        try:
            ray.get(self._start)
            ending: Ending | None = ray.get(self._actor.ending.remote())
        except RayError as error:
            cause = getattr(error, "cause", None)
            lost = f"was lost with its place on the cluster: {type(error).__name__}"
            return Ending(1, str(cause) if isinstance(cause, UserError) else lost)
        return ending

    def interrupt(self) -> None:
        if self.has_started():
            self._actor.interrupt.remote()
        else:
            self._take_back()

    def kill(self) -> None:
        if self.ending() is None:
            ray.wait([self._actor.kill.remote()], timeout=_KILL_S)
            self._take_back()

    def _take_back(self) -> None:
        ray.kill(self._actor)
        self._ending = Ending(-signal.SIGKILL)


_KILL_S = 5.0


class _Holder:
    """Holds the process of a job, on any node of the cluster."""

    def start(
        self,
        command: list[str],
        log: Path,
        slot: dict[str, str],
        folder: str,
    ) -> None:
        # Ray blocks Ctrl-C in its processes, which would deafen what they start.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.chdir(folder)
        self._process = Process(command, log, slot)

    def ending(self) -> Ending | None:
        return self._process.ending()

    def interrupt(self) -> None:
        self._process.interrupt()

    def kill(self) -> None:
        self._process.kill()
