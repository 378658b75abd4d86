"""Groups of tasks that agree, suggested by their affinities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

Group = list[int]
"""Places of tasks."""


def group_tasks(
    affinity: npt.NDArray[np.float64], least_affinity: float | None = None
) -> list[Group]:
    """Joins tasks, the nearest first, as long as what is joined agrees on average.

    Hierarchical clustering with average linkage on one minus the affinity: the two groups with the
    largest mean affinity between their tasks are joined until none reaches the least that counts.
    By default that is the mean over all pairs of tasks: a group agrees more than any two tasks do.
    Affinities of critics and of actors differ in level by more than those of tasks, so that one
    number would not serve both.

    Args:
        affinity: ``[tasks, tasks]`` in [-1, 1], symmetric.
        least_affinity: Mean affinity at which two groups are still joined; None takes the mean.

    Returns:
        The groups; groups and tasks stand beside those that they agree with most.
    """
    if len(affinity) == 1:
        return [[0]]
    distances = squareform(1.0 - affinity, checks=False)
    furthest = distances.mean() if least_affinity is None else 1.0 - least_affinity
    tree = linkage(distances, method="average", optimal_ordering=True)
    # Rounding of the mean must not part tasks that are all alike.
    group_of = fcluster(tree, t=furthest + 1e-9, criterion="distance").tolist()
    groups: dict[int, Group] = {}
    for task in leaves_list(tree).tolist():
        groups.setdefault(group_of[task], []).append(task)
    return list(groups.values())


def mean_affinity(
    affinity: npt.NDArray[np.float64], first: Sequence[int], second: Sequence[int]
) -> float:
    """Mean affinity between the tasks of two groups, not counting a task with itself.

    Returns:
        The mean; NaN if there is nothing to count.
    """
    pairs = [affinity[one, other] for one in first for other in second if one != other]
    return float(np.mean(pairs)) if pairs else float("nan")
