"""The numbers of a report: what each method scored, and how methods compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from mtrl_ntk.experiment.reports.data import Method, Run
from mtrl_ntk.experiment.reports.statistics import (
    Bootstrap,
    Estimate,
    Float64Array,
    Interval,
    area_under_curve,
    interquartile_mean,
    mean,
    mean_and_error,
    mean_ranks,
    median,
    optimality_gap,
    probability_of_improvement,
    relative_change,
    steps_to,
)

THRESHOLDS = (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class StepsTo:
    """When the runs of a method first reached a success rate."""

    steps: float
    """Median over runs of environment steps, infinite unless more than half of them did."""
    reached: int
    """Runs that did."""


class Budget(NamedTuple):
    """What all runs have had by their last evaluation, so that areas can be compared."""

    updates: float
    """Updates of the run with the fewest."""
    seconds: float
    """Seconds of the quickest run."""


class Areas(NamedTuple):
    """Mean success of a run over a :class:`Budget`: the area under its curve, divided by that.

    Before the first evaluation the curve rises from zero.
    """

    updates: float
    """Over updates."""
    seconds: float
    """Over seconds."""


def budget(methods: Iterable[Method]) -> Budget:
    """What all runs of methods have had."""
    runs = [run for method in methods for run in method.runs]
    return Budget(
        float(min(run.updates[-1] for run in runs)), float(min(run.seconds[-1] for run in runs))
    )


def areas(run: Run, until: Budget) -> Areas:
    """Areas under the success curve of a run."""
    curve = run.success.mean(1)
    return Areas(
        area_under_curve(run.updates, curve, until.updates),
        area_under_curve(run.seconds, curve, until.seconds),
    )


@dataclass(frozen=True)
class Summary:
    """What a method scored; every number is over its complete runs."""

    method: Method
    """The method."""
    success: Estimate
    """Mean success rate of the last evaluation."""
    mean: Interval
    """The same, with a bootstrap interval."""
    iqm: Interval
    """Interquartile mean of the last evaluation."""
    median: Interval
    """Median over tasks of the last evaluation."""
    gap: Interval
    """Optimality gap of the last evaluation."""
    unseen: Estimate
    """Mean success rate on goals that training never met; NaN if that was not evaluated."""
    unseen_iqm: Interval
    """Interquartile mean there."""
    unseen_by_task: dict[str, Estimate]
    """Success rate of each task there; empty if that was not evaluated."""
    last: Estimate
    """Mean over the last evaluations."""
    max_of_mean: float
    """Maximum over training of the mean curve."""
    mean_of_max: Estimate
    """Mean of each run's own maximum."""
    area_updates: Estimate
    """Mean success over the updates that all runs have had."""
    area_seconds: Estimate
    """Mean success over the seconds that all runs have had."""
    steps_to: dict[float, StepsTo]
    """By success rate."""
    by_task: dict[str, Estimate]
    """Success rate of each task in the last evaluation."""
    task_intervals: dict[str, Interval]
    """The same, with a bootstrap interval."""
    updates_per_second: float
    """Median over runs."""
    env_steps_per_second: float
    """Median over runs."""
    hours: float
    """Median over runs of the time to the last evaluation."""

    @property
    def has_unseen(self) -> bool:
        """Whether all runs were evaluated on goals that training never met."""
        return bool(self.unseen_by_task)


@dataclass(frozen=True)
class Comparison:
    """How methods compare on the tasks that all have."""

    tasks: tuple[str, ...]
    """Those tasks."""
    ranks: tuple[float, ...]
    """Mean rank of each method; empty for a single one."""
    changes: tuple[float, ...]
    """Delta-m of each method in percent; empty without single-task runs."""
    left_out: tuple[str, ...]
    """Tasks on which the single-task runs have no success, which delta-m leaves out."""
    improvement: tuple[tuple[Interval, ...], ...]
    """Probability that the method of the row beats that of the column; empty for a single one."""


def summarize(method: Method, last: int, bootstrap: Bootstrap, until: Budget) -> Summary:
    """Finds the numbers of a method.

    Args:
        method: Its runs, all complete.
        last: Evaluations that the mean of the last ones is over.
        bootstrap: How intervals are found.
        until: What areas under curves are over.
    """
    final, (steps, curves) = method.final, method.curves
    unseen = np.full_like(final, math.nan) if method.unseen is None else method.unseen
    area_updates, area_seconds = np.transpose([areas(run, until) for run in method.runs])
    return Summary(
        method=method,
        success=mean_and_error(final.mean(1)),
        mean=bootstrap.interval(mean, final),
        iqm=bootstrap.interval(interquartile_mean, final),
        median=bootstrap.interval(median, final),
        gap=bootstrap.interval(optimality_gap, final),
        unseen=mean_and_error(unseen.mean(1)),
        unseen_iqm=bootstrap.interval(interquartile_mean, unseen),
        unseen_by_task={} if method.unseen is None else _by_task(method, unseen),
        last=mean_and_error(curves[:, -last:].mean(1)),
        max_of_mean=float(curves.mean(0).max()),
        mean_of_max=mean_and_error(curves.max(1)),
        area_updates=mean_and_error(area_updates),
        area_seconds=mean_and_error(area_seconds),
        steps_to={threshold: _steps_to(steps, curves, threshold) for threshold in THRESHOLDS},
        by_task=_by_task(method, final),
        task_intervals={
            task: bootstrap.interval(mean, rates[:, None])
            for task, rates in zip(method.tasks, final.T, strict=True)
        },
        updates_per_second=_median(run.updates_per_second for run in method.runs),
        env_steps_per_second=_median(run.env_steps_per_second for run in method.runs),
        hours=_median(run.seconds[-1] / 3600 for run in method.runs),
    )


def _by_task(method: Method, scores: Float64Array) -> dict[str, Estimate]:
    return {task: mean_and_error(rates) for task, rates in zip(method.tasks, scores.T, strict=True)}


def compare(methods: Sequence[Method], bootstrap: Bootstrap) -> Comparison:
    """Compares methods with one another, and with the single-task runs if there is one such."""
    tasks = _common_tasks(methods)
    if not tasks:
        return Comparison((), (), (), (), ())
    scores = [method.final[:, [method.tasks.index(task) for task in tasks]] for method in methods]
    rates = np.stack([score.mean(0) for score in scores])
    several = len(methods) > 1
    single = [row for row, method in enumerate(methods) if method.is_single_task]
    baseline = rates[single[0]] if several and len(single) == 1 else None
    return Comparison(
        tasks=tasks,
        ranks=tuple(mean_ranks(rates).tolist()) if several else (),
        changes=() if baseline is None else tuple(relative_change(r, baseline) for r in rates),
        left_out=()
        if baseline is None
        else tuple(task for task, rate in zip(tasks, baseline, strict=True) if rate <= 0),
        improvement=_improvement(scores, bootstrap) if several else (),
    )


def _common_tasks(methods: Sequence[Method]) -> tuple[str, ...]:
    common = reduce(set.intersection, [set(method.tasks) for method in methods])
    return tuple(task for task in methods[0].tasks if task in common)


def _improvement(
    scores: Sequence[Float64Array], bootstrap: Bootstrap
) -> tuple[tuple[Interval, ...], ...]:
    return tuple(
        tuple(
            Interval(math.nan, math.nan, math.nan)
            if row == column
            else bootstrap.interval(probability_of_improvement, ours, theirs)
            for column, theirs in enumerate(scores)
        )
        for row, ours in enumerate(scores)
    )


def _steps_to(steps: Float64Array, curves: Float64Array, threshold: float) -> StepsTo:
    first = steps_to(steps, curves, threshold)
    # The upper of the two middle runs: the mean of a number and infinity says nothing.
    middle = float(np.sort(first)[len(first) // 2])
    return StepsTo(middle, int(np.isfinite(first).sum()))


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan
