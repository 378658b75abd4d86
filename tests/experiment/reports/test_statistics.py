"""Statistics against SciPy and against slow implementations of their definitions."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from mtrl_ntk.experiment.reports.statistics import (
    Bootstrap,
    Float64Array,
    area_under_curve,
    interquartile_mean,
    mean,
    mean_and_error,
    mean_ranks,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    relative_change,
    steps_to,
)

SHAPES = [(1, 1), (1, 3), (3, 1), (3, 3), (5, 10), (10, 10), (4, 7)]
rates = arrays.arrays(
    np.float64, st.tuples(st.integers(2, 5), st.integers(1, 4)), elements=st.floats(0, 1)
)


def scores(runs: int = 5, tasks: int = 10, seed: int = 0) -> Float64Array:
    generator = np.random.default_rng(seed)
    return np.round(50 * generator.beta(4, 2, (runs, tasks))) / 50


@pytest.mark.parametrize("shape", SHAPES)
def test_the_interquartile_mean_is_scipys_trimmed_mean(shape: tuple[int, int]) -> None:
    values = scores(*shape)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values.ravel(), 0.25))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_other_aggregates_are_their_definitions(shape: tuple[int, int]) -> None:
    values = scores(*shape)
    of_tasks = [statistics.fmean(column) for column in values.T.tolist()]
    assert median(values) == pytest.approx(statistics.median(of_tasks))
    assert mean(values) == pytest.approx(statistics.fmean(of_tasks))
    shortfalls = [max(0.0, 1 - value) for value in values.ravel().tolist()]
    assert optimality_gap(values) == pytest.approx(statistics.fmean(shortfalls))


@pytest.mark.parametrize("statistic", [mean, interquartile_mean, median, optimality_gap])
def test_leading_axes_are_samples(statistic: object) -> None:
    assert callable(statistic)
    many = np.stack([scores(seed=seed) for seed in range(4)])
    assert statistic(many) == pytest.approx([float(statistic(one)) for one in many], rel=1e-12)


def test_the_error_is_scipys_standard_error() -> None:
    values = scores().mean(1)
    assert mean_and_error(values) == pytest.approx((values.mean(), stats.sem(values)))
    alone = mean_and_error(values[:1])
    assert (alone.value, math.isnan(alone.error)) == (values[0], True)


def slow_stratified_interval(values: Float64Array, resamples: int) -> tuple[float, float]:
    """Percentiles of the trimmed mean, where each task draws its runs by itself."""
    generator, found = random.Random(7), []
    columns = values.T.tolist()
    for _ in range(resamples):
        drawn = [rate for runs in columns for rate in generator.choices(runs, k=len(runs))]
        found.append(float(stats.trim_mean(drawn, 0.25)))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("shape", [(3, 3), (5, 10), (10, 10)])
def test_the_stratified_bootstrap_agrees_with_a_slow_one(shape: tuple[int, int]) -> None:
    values = scores(*shape)
    found = Bootstrap("tasks", 4000).interval(interquartile_mean, values)
    assert found.value == interquartile_mean(values)
    assert (found.low, found.high) == pytest.approx(
        slow_stratified_interval(values, 3000), abs=0.012
    )


def test_the_bootstrap_of_whole_runs_agrees_with_scipy() -> None:
    values = scores(10, 10)
    found = Bootstrap("runs", 5000).interval(mean, values)
    expected = stats.bootstrap(
        (values.mean(1),),
        np.mean,
        n_resamples=5000,
        method="percentile",
        random_state=np.random.default_rng(3),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_only_whole_runs_keep_what_the_tasks_of_a_run_share() -> None:
    shared = np.repeat(scores(8, 1), 10, axis=1)
    by_task, whole = (
        Bootstrap(resample, 2000).interval(mean, shared) for resample in ("tasks", "runs")
    )
    assert whole.high - whole.low > 2 * (by_task.high - by_task.low)


def test_one_run_has_no_interval_and_two_have() -> None:
    alone = Bootstrap(resamples=50).interval(mean, scores(1, 3))
    assert np.isnan([alone.low, alone.high]).all()
    assert alone.value == mean(scores(1, 3))
    assert np.isfinite(Bootstrap(resamples=50).interval(mean, scores(2, 3))).all()
    compared = Bootstrap(resamples=50).interval(
        probability_of_improvement, scores(1, 3), scores(4, 3)
    )
    assert np.isnan(compared.low)


def test_the_same_interval_twice_is_the_same() -> None:
    first, second = (Bootstrap(resamples=50).interval(mean, scores()) for _ in range(2))
    assert first == second


@given(rates)
def test_intervals_are_ordered_and_stay_within_the_values(values: Float64Array) -> None:
    for resample in ("tasks", "runs"):
        found = Bootstrap(resample, 40).interval(interquartile_mean, values)
        assert values.min() - 1e-12 <= found.low <= found.high <= values.max() + 1e-12


def test_the_probability_of_improvement_is_that_of_mann_whitney() -> None:
    ours, theirs = scores(5, 4, seed=1), scores(7, 4, seed=2)
    expected = [
        stats.mannwhitneyu(ours[:, task], theirs[:, task]).statistic / (5 * 7) for task in range(4)
    ]
    assert probability_of_improvement(ours, theirs) == pytest.approx(np.mean(expected))


@given(rates)
def test_one_of_two_methods_improves_on_the_other(values: Float64Array) -> None:
    other = values[::-1][:2]
    both = probability_of_improvement(values, other) + probability_of_improvement(other, values)
    assert both == pytest.approx(1)
    assert probability_of_improvement(values, values) == pytest.approx(0.5)


def test_profiles_count_what_is_above() -> None:
    values, thresholds = scores(), np.linspace(0, 1, 11)
    expected = [
        sum(rate > threshold for rate in values.ravel()) / values.size for threshold in thresholds
    ]
    assert performance_profile(values, thresholds).tolist() == pytest.approx(expected)


POINTS = np.array([10.0, 20.0, 50.0, 60.0])


@pytest.mark.parametrize("end", [4.0, 10.0, 20.0, 34.5, 60.0])
def test_the_area_is_the_mean_height_up_to_its_end(end: float) -> None:
    heights = scores(1, 4)[0]
    fine = np.linspace(0, end, 100_001)
    expected = np.interp(fine, [0, *POINTS], [0, *heights]).mean()
    assert area_under_curve(POINTS, heights, end) == pytest.approx(expected, abs=1e-5)


def test_the_area_depends_on_nothing_behind_its_end_or_between_its_points() -> None:
    heights = scores(1, 4)[0]
    area = area_under_curve(POINTS, heights, 20.0)
    assert area_under_curve(POINTS[:2], heights[:2], 20.0) == area
    assert area_under_curve(1000 * POINTS, heights, 20_000.0) == pytest.approx(area)
    middle, half = np.insert(POINTS, 1, 15.0), np.insert(heights, 1, heights[:2].mean())
    assert area_under_curve(middle, half, 20.0) == pytest.approx(area)


def test_a_curve_that_was_measured_at_zero_begins_there() -> None:
    assert area_under_curve(np.array([0.0, 10.0]), np.array([0.5, 0.5]), 10.0) == 0.5
    assert math.isnan(area_under_curve(np.array([0.0]), np.array([0.5]), 0.0))


def test_steps_are_those_of_the_first_evaluation_that_is_good_enough() -> None:
    steps = np.array([1.0, 2.0, 3.0])
    curves = np.array([[0.1, 0.5, 0.2], [0.6, 0.4, 0.7], [0.1, 0.2, 0.3]])
    assert steps_to(steps, curves, 0.5).tolist() == [2, 1, math.inf]
    mean_of_tasks = np.array([[0.8, 0.7, 0.9]]).mean(1)  # a little below 0.8 as computed
    assert steps_to(steps[:1], mean_of_tasks[None], 0.8).tolist() == [1]


def test_the_relative_change_is_that_of_the_paper() -> None:
    method, single = [0.9, 0.4, 0.5], [0.6, 0.8, 0.0]
    expected = statistics.fmean([(0.6 - 0.9) / 0.6, (0.8 - 0.4) / 0.8]) * 100
    assert relative_change(np.array(method), np.array(single)) == pytest.approx(expected)
    assert math.isnan(relative_change(np.array(method), np.zeros(3)))


def test_ranks_begin_at_one_for_the_best_and_share_ties() -> None:
    table = scores(4, 6)
    expected = [
        statistics.fmean(
            1 + sum(other > own for other in column) + (column.count(own) - 1) / 2
            for own, column in zip(row, table.T.tolist(), strict=True)
        )
        for row in table.tolist()
    ]
    assert mean_ranks(table).tolist() == pytest.approx(expected)
    assert mean_ranks(np.array([[0.9, 0.9], [0.5, 0.9]])).tolist() == [1.25, 1.75]
