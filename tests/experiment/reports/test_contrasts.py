"""Contrasts against SciPy's tests and against their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.reports.contrasts import Outcome, by_seed, contrasts, holm, paired, verdict
from mtrl_ntk.experiment.reports.data import Method
from mtrl_ntk.experiment.reports.findings import find
from mtrl_ntk.experiment.reports.options import ReportOptions

MARGIN = 0.05


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(0.01, 0.5))
def test_tests_of_pairs_are_scipys(values: list[float], margin: float) -> None:
    differences = np.array(values)
    if differences.std() < 1e-6:
        return
    ours = paired(differences, margin)
    theirs = stats.ttest_1samp(differences, 0)
    interval = theirs.confidence_interval(0.95)
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-9)
    assert ours.difference == pytest.approx((differences.mean(), interval.low, interval.high))
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    assert ours.p_equivalence == pytest.approx(max(below, above), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_its_steps_do(values: list[float]) -> None:
    adjusted = holm(values)
    for level in (0.01, 0.05, 0.3):
        rejected, left = set(), sorted(range(len(values)), key=values.__getitem__)
        while left and values[left[0]] <= level / len(left):
            rejected.add(left.pop(0))
        assert {place for place, p in enumerate(adjusted) if p <= level} == rejected


def test_what_cannot_be_tested_counts_as_no_test() -> None:
    assert holm([0.02, math.nan, 0.01])[1:] == pytest.approx([math.nan, 0.02], nan_ok=True)
    single = paired(np.array([0.3]), MARGIN)
    assert single.difference.value == 0.3
    assert math.isnan(single.p)
    assert verdict(single, math.nan) == "not shown"


def test_equal_runs_are_equivalent_and_a_constant_difference_is_one() -> None:
    same = paired(np.zeros(3), MARGIN)
    assert verdict(same, holm([same.p])[0]) == "equivalent"
    more = paired(np.full(3, 0.2), MARGIN)
    assert verdict(more, holm([more.p])[0]) == "better"


def test_less_is_better_where_an_outcome_says_so() -> None:
    less = paired(np.full(3, -0.2), MARGIN)
    p = holm([less.p])[0]
    assert verdict(less, p, higher_is_better=False) == "better"
    assert verdict(less, p) == "worse"


def test_a_margin_may_be_a_share_of_what_is_compared_with() -> None:
    errors = {"old": {1: 10.0, 2: 10.4, 3: 9.6}, "new": {1: 10.1, 2: 10.5, 3: 9.75}}
    numbers = {name: {"error": of} for name, of in errors.items()}
    share, absolute = (
        Outcome("error", "error", MARGIN, is_share=is_share, higher_is_better=False)
        for is_share in (True, False)
    )
    (one,) = contrasts(numbers, [share], ["old"])
    assert one.margin == pytest.approx(0.5)
    assert one.verdict == "worse"
    (other,) = contrasts(numbers, [absolute], ["old"])
    assert one.paired.p_equivalence < 0.05 < other.paired.p_equivalence


def test_numbers_are_put_together_by_seed() -> None:
    assert by_seed([1, 2, 2, 3], [0.5, 1.0, 2.0, math.nan]) == {1: 0.5, 2: 1.5}


@pytest.fixture(scope="module")
def methods(runs: Path) -> list[Method]:
    return find([runs], ReportOptions()).methods


def test_methods_are_compared_seed_by_seed(runs: Path, methods: list[Method]) -> None:
    by_name = {method.name: method for method in methods}
    found = find([runs], ReportOptions(against=("equal", "ntkmtl"))).contrasts
    assert len(found) == 2 * 2 * (len(methods) - 1)  # no run was evaluated on unseen goals
    for contrast in (one for one in found if one.outcome.name == "success"):
        ours, theirs = (
            {run.config.seed: run.success[-1].mean() for run in by_name[name].runs}
            for name in (contrast.method, contrast.baseline)
        )
        common = ours.keys() & theirs.keys()
        assert contrast.seeds == len(common)
        expected = np.mean([ours[seed] - theirs[seed] for seed in common])
        assert contrast.paired.difference.value == pytest.approx(expected)


def test_an_unknown_baseline_is_named(runs: Path) -> None:
    with pytest.raises(UserError, match=r"'equl'.*equal"):
        find([runs], ReportOptions(against=("equl",)))
