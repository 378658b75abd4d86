"""The rows of the training log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.metrics import scalars
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.training.run_statistics import RunStatistics
from mtrl_ntk.experiment.types import EvaluationResult


class TrainingLog:
    """Puts together what has happened since the last row, for the logs and the display.

    Args:
        statistics: What has happened.
        logger: Where rows go.
        progress: What shows them.
        scheduled: Present values of what changes with the updates, by name.
    """

    def __init__(
        self,
        statistics: RunStatistics,
        logger: RunLogger,
        progress: Progress,
        scheduled: Callable[[], Mapping[str, Tensor]] = dict,
    ) -> None:
        self._statistics, self._logger, self._progress = statistics, logger, progress
        self._scheduled = scheduled

    def go_on(self, evaluation: EvaluationResult | None) -> None:
        """Shows how far an interrupted run was."""
        statistics = self._statistics
        rates = statistics.episodes.success_rates.tolist()
        training = dict(zip(statistics.health.task_names, rates, strict=True))
        self._progress.go_on(statistics.clock.step, training, evaluation)

    def add_row(self) -> bool:
        """Shows and logs the present state; returns whether there was anything to log."""
        statistics, names = self._statistics, self._statistics.health.task_names
        counters = statistics.clock.counters
        env_rate, update_rate = statistics.rates.lap(counters)
        success_rates = statistics.episodes.success_rates
        self._progress.update(
            counters.step,
            env_rate,
            update_rate,
            dict(zip(names, success_rates.tolist(), strict=True)),
        )
        if statistics.metrics.empty:
            return False  # there was no update yet
        means = statistics.metrics.fetch()
        statistics.health.take_row(means)
        values = means | {
            "skipped/transitions": statistics.health.take_lost(),
            "charts/training_success_rate": success_rates,
            "charts/training_return": statistics.episodes.mean_returns,
            "charts/env_steps_per_second": np.array(env_rate),
            "charts/updates_per_second": np.array(update_rate),
            "charts/worker_restarts": np.array(statistics.restarts.count),
            **{f"scheduled/{name}": np.array(x.item()) for name, x in self._scheduled().items()},
        }
        self._logger.log_training(counters, scalars(values, names))
        return True
