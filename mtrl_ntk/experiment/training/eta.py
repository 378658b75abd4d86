"""How long a run will take, judged by its first steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.types import Counters

_TIMED_STEPS = 50
"""Steps with updates that are timed."""


class DurationEstimate:
    """Estimates a run's duration once enough steps with updates were timed.

    Evaluations count with episodes of full length, at the speed of the steps without updates.

    Args:
        config: The run's configuration.
        num_tasks: Number of tasks.

    Attributes:
        warmed_up: How far the run was when its warm start had ended; its seconds are those of steps
            alone.
    """

    def __init__(self, config: RunConfig, num_tasks: int) -> None:
        self.warmed_up = self._first = Counters(vector_steps=0, env_steps=0, updates=0, seconds=0.0)
        self._config, self._num_tasks = config, num_tasks

    def state(self) -> dict[str, Any]:
        """How far the run was when its warm start had ended."""
        return asdict(self.warmed_up)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`."""
        self.warmed_up = Counters.from_json(state)

    def after(self, counters: Counters, paused: float = 0.0) -> float | None:
        """Takes note of a step that has ended.

        Args:
            counters: How far the run is.
            paused: Seconds so far that were spent on other things than steps.

        Returns:
            Seconds of the whole run, at the one step after which they can be told.
        """
        steps = replace(counters, seconds=counters.seconds - paused)
        if self._first.vector_steps == 0:
            self._first = steps
        since_warmstart = counters.vector_steps - self._config.loop.warmstart_steps
        if since_warmstart == 0:
            self.warmed_up = steps
        if since_warmstart != _TIMED_STEPS:
            return None
        seconds_per_step = (steps.seconds - self.warmed_up.seconds) / _TIMED_STEPS
        remaining = self._config.loop.total_steps - counters.vector_steps
        evaluations = evaluation_seconds(
            self._config, self._num_tasks, self._seconds_per_env_step, counters.vector_steps
        )
        return counters.seconds + remaining * seconds_per_step + evaluations

    @property
    def _seconds_per_env_step(self) -> float:
        """In the warm start; its first step is left out, as before it the run has started."""
        first = self._first
        if first.env_steps >= self.warmed_up.env_steps:  # a single step, or a resumed run
            return self.warmed_up.seconds / self.warmed_up.env_steps
        seconds = self.warmed_up.seconds - first.seconds
        return seconds / (self.warmed_up.env_steps - first.env_steps)


def evaluation_seconds(
    config: RunConfig, num_tasks: int, seconds_per_env_step: float, done: int = 0
) -> float:
    """Seconds of a run's evaluations, with episodes of full length.

    Args:
        config: The run's configuration.
        num_tasks: Number of tasks.
        seconds_per_env_step: Speed of the simulation.
        done: Vector steps whose evaluations are over.
    """
    evaluation = config.evaluation
    count = -(-config.loop.total_steps // evaluation.evaluate_every) - (
        done // evaluation.evaluate_every
    )
    episodes = count * evaluation.evaluation_episodes * num_tasks
    return episodes * config.env.horizon * seconds_per_env_step
