"""Contrasts against SciPy's tests and against their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.reports.contrasts import contrasts, holm, paired, verdict
from mtrl_ntk.experiment.reports.data import Method
from mtrl_ntk.experiment.reports.findings import find
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.summary import budget

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


@pytest.fixture(scope="module")
def methods(runs: Path) -> list[Method]:
    return find([runs], ReportOptions()).methods


def test_methods_are_compared_seed_by_seed(methods: list[Method]) -> None:
    by_name = {method.name: method for method in methods}
    found = contrasts(methods, ["equal", "ntkmtl"], budget(methods), MARGIN)
    assert len(found) == 2 * 2 * (len(methods) - 1)  # no run was evaluated on unseen goals
    for contrast in (one for one in found if one.outcome == "success"):
        ours, theirs = (
            {run.config.seed: run.success[-1].mean() for run in by_name[name].runs}
            for name in (contrast.method, contrast.baseline)
        )
        common = ours.keys() & theirs.keys()
        assert contrast.seeds == len(common)
        expected = np.mean([ours[seed] - theirs[seed] for seed in common])
        assert contrast.paired.difference.value == pytest.approx(expected)


def test_an_unknown_baseline_is_named(methods: list[Method]) -> None:
    with pytest.raises(UserError, match=r"'equl'.*equal"):
        contrasts(methods, ["equl"], budget(methods), MARGIN)
