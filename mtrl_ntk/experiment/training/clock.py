"""How far a run has come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mtrl_ntk.experiment.types import Counters


class Clock:
    """Counts a run's vector steps, updates and seconds; goes on where an interrupted run was.

    Args:
        num_envs: Environments that a vector step steps.

    Attributes:
        step: Vector steps so far.
        updates: Gradient updates so far.
    """

    def __init__(self, num_envs: int) -> None:
        self.step = self.updates = 0
        self._num_envs = num_envs
        self._started = time.perf_counter()

    @property
    def counters(self) -> Counters:
        """How far the run is."""
        return Counters(
            vector_steps=self.step,
            env_steps=self.step * self._num_envs,
            updates=self.updates,
            seconds=time.perf_counter() - self._started,
        )

    def is_due(self, interval: int) -> bool:
        """Whether what is done every so many vector steps is due; 0 stands for never."""
        return interval > 0 and self.step > 0 and self.step % interval == 0

    def state(self) -> dict[str, Any]:
        """How far the run is."""
        return asdict(self.counters)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`."""
        counters = Counters.from_json(state)
        self.step, self.updates = counters.vector_steps, counters.updates
        self._started = time.perf_counter() - counters.seconds
