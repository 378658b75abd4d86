"""What separates methods from one that they are compared with, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.experiment.reports.statistics import Float64Array, Interval, mean_and_error

Verdict = Literal["better", "worse", "equivalent", "not shown"]


@dataclass(frozen=True)
class Outcome:
    """What methods are compared by: a number of each run."""

    name: str
    """What files call it."""
    title: str
    """What tables call it."""
    margin: float
    """Difference that is too small to matter."""
    is_share: bool = False
    """Whether the margin is a share of the mean of those that are compared with."""
    higher_is_better: bool = True
    """Whether larger numbers are better ones."""
    decimals: int = 3
    """How many decimals tables show."""


class Paired(NamedTuple):
    """What is known of a mean difference from differences of pairs."""

    difference: Interval
    """Mean difference, with its 95 % interval by Student's t."""
    p: float
    """Of the paired t-test, two-sided; NaN where a test is not possible."""
    p_equivalence: float
    """Of two one-sided tests that the mean difference is beyond the margin."""


@dataclass(frozen=True)
class Contrast:
    """How a method compares with a baseline by one outcome."""

    method: str
    """The method's name."""
    baseline: str
    """Name of the one that it is compared with."""
    outcome: Outcome
    """Which number of a run."""
    margin: float
    """Difference that is too small to matter."""
    seeds: int
    """Seeds that both have."""
    paired: Paired
    """What their runs say."""
    adjusted: float
    """The p value after Holm's correction for all methods that are compared so."""
    verdict: Verdict
    """What may be said at a level of 5 %."""


Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""The number of a run by method, name of the outcome and seed."""


def contrasts(
    values: Values, outcomes: Sequence[Outcome], baselines: Sequence[str]
) -> list[Contrast]:
    """Compares methods with each of some baselines, by all outcomes that both have.

    Args:
        values: Numbers of all methods.
        outcomes: What to compare by.
        baselines: Names of those to compare the others with.

    Raises:
        UserError: If there is no such baseline.
    """
    for name in baselines:
        if name not in values:
            raise UserError(
                f"there is no method {name!r} in the report; {suggestion(name, values)}"
            )
    return [
        contrast
        for name in baselines
        for outcome in outcomes
        for contrast in _against(name, outcome, values)
    ]


def by_seed(seeds: Sequence[int], numbers: Iterable[float]) -> dict[int, float]:
    """The numbers of runs by seed; of several runs of a seed, their mean. NaN are left out."""
    found: dict[int, list[float]] = {}
    for seed, number in zip(seeds, numbers, strict=True):
        if not math.isnan(number):
            found.setdefault(seed, []).append(number)
    return {seed: float(np.mean(of_seed)) for seed, of_seed in found.items()}


def _against(baseline: str, outcome: Outcome, values: Values) -> Iterator[Contrast]:
    theirs = values[baseline].get(outcome.name, {})
    if not theirs:
        return
    margin = outcome.margin
    if outcome.is_share:
        margin *= abs(float(np.mean([*theirs.values()])))
    found: dict[str, tuple[int, Paired]] = {}
    for name, of_method in values.items():
        ours = of_method.get(outcome.name, {})
        seeds = [seed for seed in ours if seed in theirs]
        if name != baseline and seeds:
            differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
            found[name] = len(seeds), paired(differences, margin)
    adjusted = holm([one.p for _, one in found.values()])
    for (name, (seeds_both, one)), p in zip(found.items(), adjusted, strict=True):
        said = verdict(one, p, higher_is_better=outcome.higher_is_better)
        yield Contrast(name, baseline, outcome, margin, seeds_both, one, p, said)


def paired(differences: Float64Array, margin: float) -> Paired:
    """The mean of differences ``[pairs]``, tested against zero and against a margin."""
    mean, error = mean_and_error(differences)
    if math.isnan(error):  # of a single pair
        return Paired(Interval(mean, math.nan, math.nan), math.nan, math.nan)
    freedom = len(differences) - 1
    if error == 0:  # all differences are the same
        return Paired(Interval(mean, mean, mean), float(mean == 0), float(abs(mean) >= margin))
    reach = float(stats.t.ppf(0.975, freedom)) * error
    return Paired(
        Interval(mean, mean - reach, mean + reach),
        float(2 * stats.t.sf(abs(mean) / error, freedom)),
        float(stats.t.sf((margin - abs(mean)) / error, freedom)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's p values, which keep the chance of any false finding; NaN are none."""
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = highest
    return adjusted


def verdict(
    one: Paired, adjusted: float, level: float = 0.05, *, higher_is_better: bool = True
) -> Verdict:
    """What may be said of a difference: a proven one first, then that it is too small to matter."""
    if adjusted < level:
        return "better" if (one.difference.value > 0) == higher_is_better else "worse"
    return "equivalent" if one.p_equivalence < level else "not shown"
