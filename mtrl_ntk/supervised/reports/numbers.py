"""The numbers of a report on supervised runs: means, drops against tasks alone, ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtrl_ntk.experiment.reports.contrasts import Outcome, Values, by_seed
from mtrl_ntk.experiment.reports.statistics import (
    Bootstrap,
    Estimate,
    Float64Array,
    Interval,
    mean,
    mean_and_error,
    mean_ranks,
)
from mtrl_ntk.supervised.reports.data import Measure, SupervisedMethod


@dataclass(frozen=True)
class Summary:
    """What a method reached; every number is over its complete runs."""

    method: SupervisedMethod
    """The method."""
    estimates: list[Estimate]
    """Mean and standard error of each measure; NaN where there is none."""
    intervals: list[Interval]
    """Mean of each measure and its bootstrap interval."""
    drop: Interval
    """Delta-m in per cent, and its bootstrap interval; NaN without tasks learnt alone."""
    drops: list[float]
    """Delta-m of each run, whose mean is that of all."""
    rank: float
    """Mean rank over the measures; NaN for tasks learnt alone."""


def performance_drop(
    values: Float64Array, baseline: Float64Array, higher_is_better: Sequence[bool]
) -> Float64Array:
    """Delta-m in per cent of runs ``[..., runs, measures]`` against others; less is better.

    That of the paper: the mean over measures of the relative change of the mean over runs, which
    counts as a loss where it is one.
    """
    ours, theirs = values.mean(-2), baseline.mean(-2)
    signs = np.where(higher_is_better, -1.0, 1.0)
    return np.asarray(100 * (signs * (ours - theirs) / theirs).mean(-1))


def ranks(values: Float64Array, higher_is_better: Sequence[bool]) -> Float64Array:
    """Mean rank over measures of each method, from ``[methods, measures]``; 1 is the best.

    What is no number, as of a run that has diverged, comes last.
    """
    signed = values * np.where(higher_is_better, 1.0, -1.0)
    return mean_ranks(np.nan_to_num(signed, nan=-math.inf, posinf=math.inf, neginf=-math.inf))


def summarize(
    methods: Sequence[SupervisedMethod], measures: Sequence[Measure], bootstrap: Bootstrap
) -> list[Summary]:
    """The numbers of all methods, the best first: by delta-m, or by mean rank without it."""
    higher = [measure.metric.higher_is_better for measure in measures]
    scores = {method.name: method.scores(measures) for method in methods}
    alone = next((method for method in methods if method.is_single_task), None)
    together = [method for method in methods if not method.is_single_task]
    table = np.array([scores[method.name].mean(0) for method in together])
    shared = set.intersection(*({*method.tasks} for method in together)) if together else set()
    common = np.array([measure.task in shared for measure in measures], bool)
    ranked: Sequence[float] = [math.nan] * len(together)
    if len(together) > 1 and common.any():
        ranked = ranks(table[:, common], np.array(higher)[common].tolist()).tolist()
    rank_of = dict(zip((method.name for method in together), ranked, strict=True))

    def drop(method: SupervisedMethod) -> tuple[Interval, list[float]]:
        unknown = Interval(math.nan, math.nan, math.nan), [math.nan] * len(method.runs)
        if alone is None or method.is_single_task:
            return unknown
        ours, theirs = scores[method.name], scores[alone.name]
        known = np.isfinite(ours).all(0) & np.isfinite(theirs).all(0) & (theirs.mean(0) != 0)
        if not known.any():
            return unknown
        chosen = np.array(higher)[known].tolist()

        def of(one: Float64Array, other: Float64Array) -> Float64Array:
            return performance_drop(one, other, chosen)

        ours, theirs = ours[:, known], theirs[:, known]
        return bootstrap.interval(of, ours, theirs), of(ours[:, None], theirs).tolist()

    found = [
        Summary(
            method,
            [mean_and_error(column) for column in scores[method.name].T],
            [bootstrap.interval(mean, column[:, None]) for column in scores[method.name].T],
            *drop(method),
            rank_of.get(method.name, math.nan),
        )
        for method in methods
    ]
    return sorted(found, key=_goodness)


def _goodness(summary: Summary) -> tuple[bool, float, float]:
    """Tasks alone first, as in the paper; then the best."""
    drop, rank = (
        math.inf if math.isnan(value) else value for value in (summary.drop.value, summary.rank)
    )
    return not summary.method.is_single_task, drop, rank


def outcomes(measures: Sequence[Measure], margin: float) -> list[Outcome]:
    """What methods are compared by: delta-m, and every measure.

    Args:
        measures: What is measured.
        margin: Share of a measure that is too small to matter, and hundredth of as much of delta-m.
    """
    drop = Outcome("delta_m_percent", "Δm %", 100 * margin, higher_is_better=False, decimals=2)
    return [
        drop,
        *(
            Outcome(
                _key(measure),
                measure.title,
                margin,
                is_share=True,
                higher_is_better=measure.metric.higher_is_better,
                decimals=measure.metric.decimals,
            )
            for measure in measures
        ),
    ]


def numbers(summaries: Sequence[Summary], measures: Sequence[Measure]) -> Values:
    """The numbers that methods are compared by."""
    found = {}
    for one in summaries:
        seeds = [run.config.seed for run in one.method.runs]
        columns = zip(measures, one.method.scores(measures).T, strict=True)
        found[one.method.name] = {
            "delta_m_percent": by_seed(seeds, one.drops),
            **{_key(measure): by_seed(seeds, column.tolist()) for measure, column in columns},
        }
    return found


def _key(measure: Measure) -> str:
    return f"{measure.task}/{measure.metric.name}"
