"""Suggested groups are those that agree."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtrl_ntk.experiment.kernels.grouping import group_tasks, mean_affinity

AFFINITY = np.array(
    [
        [1.0, -0.2, 0.8, 0.1],
        [-0.2, 1.0, 0.0, 0.6],
        [0.8, 0.0, 1.0, -0.3],
        [0.1, 0.6, -0.3, 1.0],
    ]
)


def as_sets(groups: list[list[int]]) -> set[frozenset[int]]:
    return {frozenset(group) for group in groups}


@pytest.mark.parametrize(
    ("least_affinity", "expected"),
    [
        (None, {frozenset({0, 2}), frozenset({1, 3})}),
        (0.9, {frozenset({task}) for task in range(4)}),
        (0.7, {frozenset({0, 2}), frozenset({1}), frozenset({3})}),
        (0.5, {frozenset({0, 2}), frozenset({1, 3})}),
        # The means between the two pairs are -0.2, 0.1, 0.0 and -0.3: -0.1 in all.
        (-0.09, {frozenset({0, 2}), frozenset({1, 3})}),
        (-0.11, {frozenset(range(4))}),
    ],
)
def test_groups_are_joined_while_they_agree_on_average(
    least_affinity: float | None, expected: set[frozenset[int]]
) -> None:
    assert as_sets(group_tasks(AFFINITY, least_affinity)) == expected


def test_the_order_of_the_tasks_does_not_matter() -> None:
    order = [3, 0, 1, 2]
    permuted = group_tasks(AFFINITY[np.ix_(order, order)])
    assert as_sets([[order[task] for task in group] for group in permuted]) == as_sets(
        group_tasks(AFFINITY)
    )


@pytest.mark.parametrize("affinity", [-1.0, 0.0, 0.123456789, 1.0])
@pytest.mark.parametrize("num_tasks", [1, 2, 5])
def test_tasks_that_are_all_alike_form_one_group(num_tasks: int, affinity: float) -> None:
    matrix = np.full((num_tasks, num_tasks), affinity)
    np.fill_diagonal(matrix, 1.0)
    assert as_sets(group_tasks(matrix)) == {frozenset(range(num_tasks))}


def test_the_mean_affinity_of_groups_counts_no_task_with_itself() -> None:
    assert mean_affinity(AFFINITY, [0, 2], [0, 2]) == pytest.approx(0.8)
    assert mean_affinity(AFFINITY, [0, 2], [1, 3]) == pytest.approx(-0.1)
    assert math.isnan(mean_affinity(AFFINITY, [0], [0]))
    assert math.isnan(mean_affinity(AFFINITY, [0], []))
