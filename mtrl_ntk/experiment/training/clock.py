"""How far a run has come."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mtrl_ntk.experiment.types import Counters, Counts


class RunClock(ABC):
    """Counts a run's steps and seconds; goes on where an interrupted run was.

    Attributes:
        step: Steps so far.
    """

    def __init__(self) -> None:
        self.step = 0
        self._started = time.perf_counter()

    @property
    @abstractmethod
    def counters(self) -> Counts:
        """How far the run is."""

    @property
    def seconds(self) -> float:
        """Time since the start of the run."""
        return time.perf_counter() - self._started

    def is_due(self, interval: int) -> bool:
        """Whether what is done every so many steps is due; 0 stands for never."""
        return interval > 0 and self.step > 0 and self.step % interval == 0

    def state(self) -> dict[str, Any]:
        """How far the run is."""
        return asdict(self.counters)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`."""
        counters = type(self.counters).from_json(state)
        self.step = counters.step
        self._started = time.perf_counter() - float(state["seconds"])


class Clock(RunClock):
    """Counts a run's vector steps, updates and seconds.

    Args:
        num_envs: Environments that a vector step steps.

    Attributes:
        step: Vector steps so far.
        updates: Gradient updates so far.
    """

    def __init__(self, num_envs: int) -> None:
        super().__init__()
        self.updates = 0
        self._num_envs = num_envs

    @property
    def counters(self) -> Counters:
        """How far the run is."""
        env_steps = self.step * self._num_envs
        return Counters(self.step, env_steps, self.updates, self.seconds)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`."""
        super().restore(state)
        self.updates = int(state["updates"])
