"""What networks see of an observation: sums of its entries, some of them magnified near zero.

Imports no torch, as nothing does that a worker needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
"""Linear combinations of an observation's entries, ``[rows, observation_dim + 1]``; the last column
is added as it is."""


class Term(NamedTuple):
    """Some features: combinations of entries, times a factor."""

    rows: Rows
    factor: float


@dataclass(frozen=True, eq=False)
class FeatureMap:
    r"""Features :math:`[A o + a, \tanh(B o + b)]` of an observation :math:`o`.

    The tanh is a magnifier: with a large factor it tells small differences apart, and large ones
    only by their sign.

    Attributes:
        weight: ``A`` above ``B``, ``[features, observation_dim]``.
        bias: ``a`` and ``b``, ``[features]``.
        num_linear: How many of them are not squashed, the first.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    num_linear: int

    @property
    def dim(self) -> int:
        """Features that there are."""
        return len(self.bias)


def entries(observation_dim: int, begin: int, end: int | None = None) -> Rows:
    """Entries ``begin`` to ``end`` of an observation, or only the first of them."""
    return np.eye(observation_dim, observation_dim + 1)[begin : begin + 1 if end is None else end]


def shifted(rows: Rows, by: Sequence[float]) -> Rows:
    """Combinations with a constant added to each."""
    return np.hstack([rows[:, :-1], rows[:, -1:] + np.reshape(by, (-1, 1))])


def feature_map(linear: Sequence[Term], squashed: Sequence[Term] = ()) -> FeatureMap:
    """Makes a map of the terms that are not squashed and those that are."""
    rows = np.vstack([factor * rows for rows, factor in (*linear, *squashed)])
    num_linear = sum(len(rows) for rows, _ in linear)
    return FeatureMap(rows[:, :-1].astype(np.float32), rows[:, -1].astype(np.float32), num_linear)
