"""The supervised runs of a report: read, and put together by method; tasks alone by seed."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import FIXED, SHARED, to_dict
from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.layout import CONFIG, RUN_INFO, TRAINING_CSV
from mtrl_ntk.experiment.plots.run_plots import Curve, task_curves
from mtrl_ntk.experiment.reports.data import MethodOf, grouped, read_info
from mtrl_ntk.experiment.reports.statistics import Float64Array
from mtrl_ntk.supervised.config import SUPERVISED, SupervisedConfig
from mtrl_ntk.supervised.datasets.registry import DATASETS
from mtrl_ntk.supervised.metrics import Metric
from mtrl_ntk.supervised.scores import METRICS, PART, TRUNK, read_rows_of, read_scores
from mtrl_ntk.supervised.training.plots import UPDATES

_LOGGED = (*product(("weights", "ntk"), (PART,)), ("ntk", TRUNK))
Values = Mapping[str, Mapping[str, float]]
"""Numbers by task and metric."""


class Measure(NamedTuple):
    """A metric of a task."""

    task: str
    """The task."""
    metric: Metric
    """The metric."""

    @property
    def title(self) -> str:
        """Both, with the direction that is better and the unit."""
        arrow = "↑" if self.metric.higher_is_better else "↓"
        unit = f" [{self.metric.unit}]" if self.metric.unit else ""
        return f"{self.task}: {self.metric.title}{unit} {arrow}"


@dataclass(frozen=True)
class SupervisedRecord:
    """One run as its files tell it, or the single-task runs of one seed as one."""

    path: Path
    """Its folder."""
    config: SupervisedConfig
    """Its settings."""
    protocol: Mapping[str, object]
    """What its numbers mean."""
    versions: Mapping[str, object]
    """Versions of the packages that made it."""
    metrics: Mapping[str, tuple[Metric, ...]]
    """What each task is measured by."""
    is_single_task: bool
    """Whether each task was learnt alone."""
    epochs: int
    """Epochs at the last evaluation; zero if there is none."""
    seconds: float
    """Time from the start to the last evaluation."""
    evaluations: Mapping[int, Values]
    """Its evaluations, by updates."""
    epoch_seconds: float
    """Time of an epoch of training alone, by the median over the log's intervals; NaN without."""
    logged: Mapping[tuple[str, str], Mapping[str, Curve]]
    """Task weights and eigenvalues over training: by quantity and part, then by task."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.metrics)

    @property
    def is_complete(self) -> bool:
        """Whether it has been evaluated after its last epoch."""
        return self.epochs >= self.config.length

    @property
    def final(self) -> Values:
        """Its last evaluation."""
        return self.evaluations[max(self.evaluations)]


@dataclass(frozen=True)
class SupervisedMethod(MethodOf[SupervisedRecord]):
    """The complete runs that differ in their seed only."""

    @cached_property
    def means(self) -> Values:
        """Mean of each metric over the runs."""
        return {
            task: {
                name: float(np.mean([run.final[task][name] for run in self.runs]))
                for name in self.runs[0].final[task]
                if all(name in run.final[task] for run in self.runs)
            }
            for task in self.tasks
        }

    def scores(self, measures: Sequence[Measure]) -> Float64Array:
        """The last evaluation of each run, ``[runs, measures]``; NaN where there is no such."""
        return np.array(
            [
                [run.final.get(task, {}).get(metric.name, math.nan) for task, metric in measures]
                for run in self.runs
            ]
        )


def read_run(path: Path) -> SupervisedRecord:
    """Reads the files of a run.

    Raises:
        UserError: If one of them is damaged.
    """
    config, info = SUPERVISED.read(path / CONFIG), read_info(path / RUN_INFO)
    try:
        rows, found = read_rows_of(path), read_scores(path)
        whole = {at: of for at, of in found.items() if of.keys() == {*config.task_names}}
        last = [row for row in rows if int(float(row["updates"])) == max(whole, default=-1)]
        log = read_rows(path / TRAINING_CSV, "updates", "seconds")
        logged = {(of, part): task_curves(log, of, part, UPDATES) for of, part in _LOGGED}
        rates = [float(row.get("charts/updates_per_second") or "nan") for row in log]
        epochs = int(float(last[0]["epochs"])) if last else 0
        updates = float(last[0]["updates"]) / epochs if epochs else math.nan
        rate = float(np.median(rates)) if rates else math.nan
        metrics = {task: tuple(map(_metric, info[METRICS][task])) for task in config.task_names}
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"a file of {path} is damaged: {error!r}; leave that run out") from None
    return SupervisedRecord(
        path=path,
        config=config,
        protocol=info["protocol"],
        versions=info.get("versions") or {},
        metrics=metrics,
        is_single_task=config.is_single_task,
        epochs=epochs,
        seconds=float(last[0]["seconds"]) if last else math.nan,
        evaluations=whole,
        epoch_seconds=updates / rate if rate > 0 else math.nan,
        logged=logged,
    )


def _metric(values: Mapping[str, Any]) -> Metric:
    """A metric of a file, if it can be shown.

    Raises:
        TypeError, ValueError: If it cannot.
    """
    texts = all(isinstance(values.get(name, ""), str) for name in ("name", "title", "unit"))
    is_known = isinstance(values.get("higher_is_better", False), bool)
    if not texts or not is_known or values.get("decimals", 0) not in range(13):
        raise ValueError(f"{values.get('name')!r} is no metric")
    return Metric(**values)


def group(runs: Sequence[SupervisedRecord]) -> list[SupervisedMethod]:
    """Puts complete runs together that differ in nothing but their seed.

    The single-task runs of a seed become one, of all their tasks.
    """
    together = [run for run in runs if not run.is_single_task]
    alone: dict[tuple[str, int], list[SupervisedRecord]] = defaultdict(list)
    for run in runs:
        if run.is_single_task:
            settings, turn = _settings(run.config), 0
            while run.tasks in [one.tasks for one in alone[settings, turn]]:
                turn += 1  # a task of this seed once more
            alone[settings, turn].append(run)
    together += [_as_one(of_seed) for of_seed in alone.values() if of_seed]
    return [SupervisedMethod(name, tuple(found)) for name, found in grouped(together)]


def _settings(config: SupervisedConfig) -> str:
    """All that decides what is learnt of a task alone, and which seed it is."""
    settings = to_dict(config, FIXED | SHARED)
    return json.dumps({n: settings[n] for n in settings if n != "tasks"}, sort_keys=True)


def _as_one(runs: Sequence[SupervisedRecord]) -> SupervisedRecord:
    """The single-task runs of one seed as a run of all their tasks."""
    first = runs[0]
    known = DATASETS[first.config.dataset].task_names
    ordered = sorted(runs, key=lambda run: known.index(run.tasks[0]))
    finals = {task: values for run in ordered for task, values in run.final.items()}
    metrics = {task: of for run in ordered for task, of in run.metrics.items()}
    logged: dict[tuple[str, str], dict[str, Curve]] = defaultdict(dict)
    for run in ordered:
        for key, curves in run.logged.items():
            logged[key] |= curves
    return replace(
        first,
        config=replace(first.config, tasks=()),
        metrics=metrics,
        evaluations={max(max(run.evaluations) for run in runs): finals},
        seconds=sum(run.seconds for run in runs),
        epoch_seconds=sum(run.epoch_seconds for run in runs),
        logged=logged,
    )


def measures_of(methods: Sequence[SupervisedMethod]) -> list[Measure]:
    """All metrics of all tasks that the methods have, in the order of their data set."""
    found = {task: of for method in methods for task, of in method.runs[0].metrics.items()}
    known = DATASETS[methods[0].runs[0].config.dataset].task_names
    return [Measure(task, metric) for task in known if task in found for metric in found[task]]
