"""What separates methods from one that they are compared with, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.experiment.reports.data import Method
from mtrl_ntk.experiment.reports.statistics import Float64Array, Interval, mean_and_error
from mtrl_ntk.experiment.reports.summary import Budget, areas

Verdict = Literal["better", "worse", "equivalent", "not shown"]

OUTCOMES = {
    "area_updates": "area over updates",
    "success": "last evaluation",
    "unseen": "on unseen goals",
}
"""What methods are compared by, each a number of a run, in words."""


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
    outcome: str
    """Which number of a run, a key of :data:`OUTCOMES`."""
    seeds: int
    """Seeds that both have."""
    paired: Paired
    """What their runs say."""
    adjusted: float
    """The p value after Holm's correction for all methods that are compared so."""
    verdict: Verdict
    """What may be said at a level of 5 %."""


def contrasts(
    methods: Sequence[Method], baselines: Sequence[str], until: Budget, margin: float
) -> list[Contrast]:
    """Compares methods with each of some baselines, by all outcomes that both have.

    Args:
        methods: Methods with their complete runs.
        baselines: Names of those to compare the others with.
        until: What areas under curves are over.
        margin: Difference that is too small to matter.

    Raises:
        UserError: If there is no such baseline.
    """
    known = {method.name: method for method in methods}
    for name in baselines:
        if name not in known:
            raise UserError(f"there is no method {name!r} in the report; {suggestion(name, known)}")
    values = {method.name: outcomes(method, until) for method in methods}
    return [
        contrast
        for name in baselines
        for outcome in OUTCOMES
        for contrast in _against(name, outcome, values, margin)
    ]


def outcomes(method: Method, until: Budget) -> dict[str, dict[int, float]]:
    """The numbers of each run by outcome and seed; of several runs of a seed, their mean."""
    numbers = {
        "area_updates": [areas(run, until).updates for run in method.runs],
        "success": method.final.mean(1).tolist(),
    }
    if method.unseen is not None:
        numbers["unseen"] = method.unseen.mean(1).tolist()
    seeds = [run.config.seed for run in method.runs]
    return {
        name: {
            seed: float(np.mean([x for x, at in zip(of, seeds, strict=True) if at == seed]))
            for seed in dict.fromkeys(seeds)
        }
        for name, of in numbers.items()
    }


def _against(
    baseline: str,
    outcome: str,
    values: Mapping[str, Mapping[str, Mapping[int, float]]],
    margin: float,
) -> Iterator[Contrast]:
    theirs = values[baseline].get(outcome, {})
    found: dict[str, tuple[int, Paired]] = {}
    for name, of_method in values.items():
        ours = of_method.get(outcome, {})
        seeds = [seed for seed in ours if seed in theirs]
        if name != baseline and seeds:
            differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
            found[name] = len(seeds), paired(differences, margin)
    adjusted = holm([one.p for _, one in found.values()])
    for (name, (seeds_both, one)), p in zip(found.items(), adjusted, strict=True):
        yield Contrast(name, baseline, outcome, seeds_both, one, p, verdict(one, p))


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


def verdict(one: Paired, adjusted: float, level: float = 0.05) -> Verdict:
    """What may be said of a difference: a proven one first, then that it is too small to matter."""
    if adjusted < level:
        return "better" if one.difference.value > 0 else "worse"
    return "equivalent" if one.p_equivalence < level else "not shown"
