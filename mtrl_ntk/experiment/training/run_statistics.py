"""What a run counts while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mtrl_ntk.experiment.checkpoints.run_state import Stateful
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.logs.metrics import EpisodeStatistics, MetricMeans, Rates, WorkerRestarts
from mtrl_ntk.experiment.training.clock import Clock
from mtrl_ntk.experiment.training.eta import DurationEstimate
from mtrl_ntk.experiment.training.health import Health


@dataclass(frozen=True)
class RunStatistics:
    """What is counted between two rows of the log, and from the beginning."""

    clock: Clock
    """Steps, updates, seconds."""
    metrics: MetricMeans
    """Sums of what the updates report."""
    episodes: EpisodeStatistics
    """The latest training episodes."""
    rates: Rates
    """Steps and updates per second; the time of evaluations and saves does not count."""
    restarts: WorkerRestarts
    """Environment workers that were replaced."""
    health: Health
    """What was not finite."""
    eta: DurationEstimate
    """How long the run will take."""

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
