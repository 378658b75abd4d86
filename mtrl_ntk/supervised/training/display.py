"""What a person sees of a supervised run, and the rows of its log."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.metrics import scalars
from mtrl_ntk.experiment.logs.progress import MISSING, Progress
from mtrl_ntk.experiment.training.run_statistics import Statistics
from mtrl_ntk.supervised.scores import LOSS, PART, Scores
from mtrl_ntk.supervised.tasks import Task

_MOST_NAMED = 6


class EpochProgress(Progress):
    """Shows losses and each task's first metric.

    Args:
        total: Updates of the whole run.
        tasks: The tasks.
        quiet: Whether nothing is shown.
    """

    rated = "examples"

    def __init__(self, total: int, tasks: Sequence[Task], *, quiet: bool = False) -> None:
        self._tasks = {task.name: task for task in tasks}
        super().__init__(total, [*self._tasks], quiet=quiet)

    def _headline(self, *, live: bool = False) -> str:
        known = [loss for loss in self._training.values() if not math.isnan(loss)]
        mean = f"{np.mean(known):.4g}" if known else MISSING
        return f"{'mean ' * live}loss {mean}"

    def _show(self, result: Scores) -> None:
        self._evaluation = {name: _first(task, result) for name, task in self._tasks.items()}

    def _summary(self, result: Scores) -> str:
        if len(self._tasks) > _MOST_NAMED:
            losses = [of_task[LOSS] for of_task in result.values.values()]
            return f"mean loss {np.mean(losses):.4g}"
        return ", ".join(f"{name} {self._metric(name)}" for name in self._tasks)

    def _row(self, task: str) -> tuple[str, str, str, ProgressBar | None]:
        loss = self._training.get(task, math.nan)
        return task, MISSING if math.isnan(loss) else f"{loss:.4g}", self._metric(task), None

    def _metric(self, name: str) -> str:
        metric = self._tasks[name].metrics[0]
        value = self._evaluation.get(name, math.nan)
        shown = MISSING if math.isnan(value) else f"{value:.{metric.decimals}f}{_unit(metric.unit)}"
        return f"{metric.title} {shown}"

    def _results(self, result: Scores) -> Table:
        table = Table(
            title="Evaluation",
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for name in ("task", "metric"):
            table.add_column(name, no_wrap=True)
        table.add_column("value", justify="right")
        for name, task in self._tasks.items():
            for metric in task.metrics:
                arrow = "↑" if metric.higher_is_better else "↓"
                value = result.values[name][metric.name]
                text = MISSING if math.isnan(value) else f"{value:.{metric.decimals}f}"
                row = (name, f"{metric.title} {arrow}", text + _unit(metric.unit))
                table.add_row(*map(Text, row))
        return table


def _first(task: Task, result: Scores) -> float:
    return result.values[task.name][task.metrics[0].name]


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


class EpochLog:
    """Puts together what has happened since the last row, for the logs and the display.

    Args:
        rate: Says the learning rate.
        statistics: What has happened.
        logger: Where rows go.
        progress: What shows them.
    """

    def __init__(
        self,
        rate: Callable[[], float],
        statistics: Statistics,
        logger: RunLogger,
        progress: Progress,
    ) -> None:
        self._rate, self._statistics = rate, statistics
        self._logger, self._progress = logger, progress

    def go_on(self, evaluation: Scores | None) -> None:
        """Shows how far an interrupted run was."""
        self._progress.go_on(self._statistics.clock.step, {}, evaluation)

    def add_row(self) -> bool:
        """Shows and logs the present state; returns whether there was anything to log."""
        statistics, names = self._statistics, self._statistics.health.task_names
        counters: Any = statistics.clock.counters
        rate, update_rate = statistics.rates.lap(counters)
        if statistics.metrics.empty:
            return False
        means = statistics.metrics.fetch()
        statistics.health.take_row(means)
        losses: Mapping[str, float] = dict(
            zip(names, means[f"losses/{PART}"].tolist(), strict=True)
        )
        self._progress.update(counters.step, rate, update_rate, losses)
        values = means | {
            "charts/learning_rate": np.array(self._rate()),
            "charts/examples_per_second": np.array(rate),
            "charts/updates_per_second": np.array(update_rate),
        }
        self._logger.log_training(counters, scalars(values, names))
        return True
