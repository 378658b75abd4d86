"""What a run counts while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mtrl_ntk.experiment.checkpoints.run_state import Stateful
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.logs.metrics import EpisodeStatistics, MetricMeans, Rates, WorkerRestarts
from mtrl_ntk.experiment.training.clock import Clock, RunClock
from mtrl_ntk.experiment.training.eta import DurationEstimate
from mtrl_ntk.experiment.training.health import Health


class Estimate(Protocol):
    """Says how long a run will take, once enough of it was timed."""

    def after(self, counters: Any, paused: float = 0.0) -> float | None:  # noqa: ANN401
        """Takes note of a step; seconds of the whole run at the one after which they are known."""


@dataclass(frozen=True)
class Statistics:
    """What any run counts between two rows of the log, and from the beginning."""

    clock: RunClock
    """Steps and seconds, and what else is counted."""
    metrics: MetricMeans
    """Sums of what the updates report."""
    rates: Rates
    """Speeds; the time of evaluations and saves does not count."""
    health: Health
    """What was not finite."""
    eta: Estimate
    """How long the run will take."""


@dataclass(frozen=True)
class RunStatistics(Statistics):
    """What a run of reinforcement learning counts."""

    clock: Clock
    eta: DurationEstimate
    episodes: EpisodeStatistics
    """The latest training episodes."""
    restarts: WorkerRestarts
    """Environment workers that were replaced."""

    def parts(self) -> dict[str, Stateful]:
        """Those that a checkpoint keeps, by the names of their states."""
        return {
            "counters": self.clock,
            "metrics": self.metrics,
            "episodes": self.episodes,
            "rates": self.rates,
            "worker_restarts": self.restarts,
            "health": self.health,
            "warmed_up": self.eta,
        }


def make_statistics(
    config: RunConfig,
    task_names: Sequence[str],
    device: torch.device,
    say: Callable[[str], object],
) -> RunStatistics:
    """Makes the statistics of a run at its beginning.

    Args:
        config: The run's configuration.
        task_names: Its tasks.
        device: Where the agent learns.
        say: Shows a line, of each worker that is replaced.
    """
    num_tasks = len(task_names)
    return RunStatistics(
        clock=Clock(num_tasks * config.env.envs_per_task),
        metrics=MetricMeans(device),
        episodes=EpisodeStatistics(num_tasks),
        rates=Rates(),
        restarts=WorkerRestarts(say),
        health=Health(task_names),
        eta=DurationEstimate(config, num_tasks),
    )
