"""How methods compare, beyond what the numbers of single methods say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mtrl_ntk.experiment.reports.data import Method, group_runs, read_run
from mtrl_ntk.experiment.reports.statistics import Bootstrap
from mtrl_ntk.experiment.reports.summary import areas, budget, compare, summarize

BOOTSTRAP = Bootstrap("tasks", 20)


@pytest.fixture(scope="module")
def methods(runs: Path) -> dict[str, Method]:
    found = group_runs([read_run(path) for path in sorted(runs.glob("*-seed[123]"))])
    return {method.name: method for method in found}


def test_a_method_alone_is_compared_with_nothing(methods: dict[str, Method]) -> None:
    comparison = compare([methods["equal"]], BOOTSTRAP)
    assert comparison.tasks == methods["equal"].tasks
    assert (comparison.ranks, comparison.changes, comparison.improvement) == ((), (), ())


def test_a_method_is_no_better_than_itself(methods: dict[str, Method]) -> None:
    comparison = compare([methods["ntkmtl"]] * 2, BOOTSTRAP)
    assert comparison.ranks == (1.5, 1.5)
    assert comparison.improvement[0][1].value == comparison.improvement[1][0].value == 0.5
    assert math.isnan(comparison.improvement[0][0].value)


def test_chances_of_both_ways_are_one_together(methods: dict[str, Method]) -> None:
    for other in ("ntkmtl", "pcgrad"):
        (_, one), (two, _) = compare([methods["equal"], methods[other]], BOOTSTRAP).improvement
        assert one.value + two.value == pytest.approx(1)


def test_changes_are_relative_to_single_task_runs(methods: dict[str, Method]) -> None:
    (single,) = [method for method in methods.values() if method.is_single_task]
    assert compare([methods["equal"], methods["pcgrad"]], BOOTSTRAP).changes == ()
    same, other = compare([single, methods["equal"]], BOOTSTRAP).changes
    assert (same, other > 0) == (0, True)


def test_the_order_of_the_runs_does_not_matter(methods: dict[str, Method]) -> None:
    method = methods["pcgrad"]
    reverse = Method(method.name, method.runs[::-1])
    one, two = (summarize(each, 2, BOOTSTRAP, budget([each])) for each in (method, reverse))
    assert one.success.value == pytest.approx(two.success.value)
    assert one.max_of_mean == pytest.approx(two.max_of_mean)
    assert one.steps_to == two.steps_to
    assert one.gap.value == pytest.approx(1 - one.success.value)


def test_areas_are_over_what_all_runs_have_had(methods: dict[str, Method]) -> None:
    run = methods["equal"].runs[0]
    slow = replace(run, seconds=2 * run.seconds)
    until = budget([Method("slow", (slow,)), methods["pcgrad"]])
    assert until == (900, 50)
    assert areas(slow, until).updates == areas(run, until).updates
    # Half of the curve, which begins at zero and rises.
    assert areas(slow, until).seconds < areas(run, until).seconds
