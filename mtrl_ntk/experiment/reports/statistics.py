"""Statistics of success rates over runs and tasks; arrays in, numbers out.

Scores are ``[..., runs, tasks]``. The aggregates and their intervals are those of Agarwal et al.,
*Deep Reinforcement Learning at the Edge of the Statistical Precipice* (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]
Statistic = Callable[..., FloatArray]
Resample = Literal["tasks", "runs"]


class Estimate(NamedTuple):
    """A number and its standard error, which is NaN for a single run."""

    value: float
    error: float


class Interval(NamedTuple):
    """A number and the ends of its interval, which are NaN for a single run."""

    value: float
    low: float
    high: float


class Bootstrap(NamedTuple):
    """How intervals are found: percentiles of a statistic over resampled runs.

    With ``tasks``, runs are drawn with replacement for each task apart (stratified by task). That
    takes the tasks of a run for independent, which those of one multi-task agent are not; ``runs``
    draws whole runs instead.
    """

    resample: Resample = "tasks"
    resamples: int = 5000
    level: float = 0.95

    def interval(self, statistic: Statistic, *samples: FloatArray) -> Interval:
        """The statistic of samples ``[runs, tasks]``, each resampled apart, and its interval."""
        value = float(statistic(*samples))
        if min(len(sample) for sample in samples) < 2:
            return Interval(value, math.nan, math.nan)
        generator = np.random.default_rng(0)  # the same report twice has the same numbers
        drawn = statistic(*(self._draw(sample, generator) for sample in samples))
        tail = (1 - self.level) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Interval(value, float(low), float(high))

    def _draw(self, sample: FloatArray, generator: np.random.Generator) -> FloatArray:
        runs, tasks = sample.shape
        columns = tasks if self.resample == "tasks" else 1
        rows = generator.integers(runs, size=(self.resamples, runs, columns))
        return sample[rows, np.arange(tasks)]


def mean_and_error(values: FloatArray) -> Estimate:
    """Mean over runs ``[runs]`` and its standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), float(error))


def mean(scores: FloatArray) -> FloatArray:
    """Mean over runs and tasks."""
    return np.asarray(scores.mean((-2, -1)))


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """Mean of the middle half of all scores, runs and tasks together."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(-1))


def median(scores: FloatArray) -> FloatArray:
    """Median over tasks of the mean over runs."""
    return np.asarray(np.median(scores.mean(-2), axis=-1))


def optimality_gap(scores: FloatArray) -> FloatArray:
    """Mean amount by which scores fall short of one."""
    return np.asarray(1 - np.minimum(scores, 1).mean((-2, -1)))


def probability_of_improvement(first: FloatArray, second: FloatArray) -> FloatArray:
    """Chance that a run of the first beats one of the second on a task, ties counting half.

    It is the mean over tasks of the Mann-Whitney statistic divided by the number of pairs.
    """
    ours, theirs = first[..., :, None, :], second[..., None, :, :]
    wins = (ours > theirs) + 0.5 * (ours == theirs)
    return np.asarray(wins.mean((-3, -2, -1)))


def performance_profile(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Share of all runs and tasks that score above each threshold, ``[thresholds]``."""
    return np.asarray((scores[..., None] > thresholds).mean((-3, -2)))


def area_under_curve(steps: FloatArray, values: FloatArray) -> FloatArray:
    """Mean height of curves ``[..., evaluations]`` from the first evaluation to the last."""
    if len(steps) == 1:
        return np.asarray(values[..., 0])
    heights = (values[..., 1:] + values[..., :-1]) / 2
    return np.asarray((heights * np.diff(steps)).sum(-1) / (steps[-1] - steps[0]))


def steps_to(steps: FloatArray, values: FloatArray, threshold: float) -> FloatArray:
    """First evaluated step at which curves ``[..., evaluations]`` reach a value, or infinity."""
    reached = values >= threshold - 1e-9  # a mean of rates may miss its value by a rounding
    return np.asarray(np.where(reached, steps, np.inf).min(-1))


def relative_change(rates: FloatArray, baseline: FloatArray) -> float:
    """Delta-m in percent: mean loss against a baseline over tasks ``[tasks]``; less is better.

    A task on which the baseline has no success has no relative change, and is left out.
    """
    known = baseline > 0
    if not known.any():
        return math.nan
    return float(100 * ((baseline - rates)[known] / baseline[known]).mean())


def mean_ranks(rates: FloatArray) -> FloatArray:
    """Mean rank over tasks of each method, from rates ``[methods, tasks]``; 1 is the best."""
    return np.asarray(stats.rankdata(-rates, axis=0).mean(1))
