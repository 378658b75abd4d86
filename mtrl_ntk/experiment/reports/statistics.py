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
from scipy import integrate, stats

Float64Array = npt.NDArray[np.float64]
Statistic = Callable[..., Float64Array]
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

    def interval(self, statistic: Statistic, *samples: Float64Array) -> Interval:
        """The statistic of samples ``[runs, tasks]``, each resampled apart, and its interval."""
        value = float(statistic(*samples))
        if min(len(sample) for sample in samples) < 2:
            return Interval(value, math.nan, math.nan)
        generator = np.random.default_rng(0)  # the same report twice has the same numbers
        drawn = statistic(*(self._draw(sample, generator) for sample in samples))
        tail = (1 - self.level) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Interval(value, float(low), float(high))

    def _draw(self, sample: Float64Array, generator: np.random.Generator) -> Float64Array:
        runs, tasks = sample.shape
        columns = tasks if self.resample == "tasks" else 1
        rows = generator.integers(runs, size=(self.resamples, runs, columns))
        return sample[rows, np.arange(tasks)]


def mean_and_error(values: Float64Array) -> Estimate:
    """Mean over runs ``[runs]`` and its standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), float(error))


def mean(scores: Float64Array) -> Float64Array:
    """Mean over runs and tasks."""
    return np.asarray(scores.mean((-2, -1)))


def interquartile_mean(scores: Float64Array) -> Float64Array:
    """Mean of the middle half of all scores, runs and tasks together."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(-1))


def median(scores: Float64Array) -> Float64Array:
    """Median over tasks of the mean over runs."""
    return np.asarray(np.median(scores.mean(-2), axis=-1))


def optimality_gap(scores: Float64Array) -> Float64Array:
    """Mean amount by which scores fall short of one."""
    return np.asarray(1 - np.minimum(scores, 1).mean((-2, -1)))


def probability_of_improvement(first: Float64Array, second: Float64Array) -> Float64Array:
    """Chance that a run of the first beats one of the second on a task, ties counting half.

    It is the mean over tasks of the Mann-Whitney statistic divided by the number of pairs.
    """
    ours, theirs = first[..., :, None, :], second[..., None, :, :]
    wins = (ours > theirs) + 0.5 * (ours == theirs)
    return np.asarray(wins.mean((-3, -2, -1)))


def performance_profile(scores: Float64Array, thresholds: Float64Array) -> Float64Array:
    """Share of all runs and tasks that score above each threshold, ``[thresholds]``."""
    return np.asarray((scores[..., None] > thresholds).mean((-3, -2)))


def area_under_curve(points: Float64Array, heights: Float64Array, end: float) -> float:
    """Mean height of a curve from zero, where it begins without height, to an end.

    Args:
        points: Where the curve was measured, ``[evaluations]``, in their order.
        heights: How high it was, ``[evaluations]``.
        end: Not beyond the last of the points; NaN is returned for zero.
    """
    if end <= 0:
        return math.nan
    points, heights = np.append(0, points), np.append(0, heights)
    before = points < end
    last = np.interp(end, points, heights)
    area = integrate.trapezoid(np.append(heights[before], last), np.append(points[before], end))
    return float(area / end)


def steps_to(steps: Float64Array, values: Float64Array, threshold: float) -> Float64Array:
    """First evaluated step at which curves ``[..., evaluations]`` reach a value, or infinity."""
    reached = values >= threshold - 1e-9  # a mean of rates may miss its value by a rounding
    return np.asarray(np.where(reached, steps, np.inf).min(-1))


def relative_change(rates: Float64Array, baseline: Float64Array) -> float:
    """Delta-m in percent: mean loss against a baseline over tasks ``[tasks]``; less is better.

    A task on which the baseline has no success has no relative change, and is left out.
    """
    known = baseline > 0
    if not known.any():
        return math.nan
    return float(100 * ((baseline - rates)[known] / baseline[known]).mean())


def mean_ranks(rates: Float64Array) -> Float64Array:
    """Mean rank over tasks of each method, from rates ``[methods, tasks]``; 1 is the best."""
    return np.asarray(stats.rankdata(-rates, axis=0).mean(1))
