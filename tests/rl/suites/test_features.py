"""Maps from observations to features."""

from __future__ import annotations

import numpy as np

from mtrl_ntk.rl.suites.features import Term, entries, feature_map, shifted


def test_a_map_is_its_terms_in_order() -> None:
    first, rest = entries(4, 0), entries(4, 1, 4)
    mapping = feature_map(
        linear=[Term(rest, 2), Term(shifted(first, [-0.5]), 3)],
        squashed=[Term(first - rest[:1], 7)],
    )
    observation = np.array([0.1, 0.2, 0.3, 0.4])
    values = mapping.weight @ observation + mapping.bias
    np.testing.assert_allclose(values, [0.4, 0.6, 0.8, 3 * (0.1 - 0.5), 7 * (0.1 - 0.2)], rtol=1e-6)
    assert (mapping.dim, mapping.num_linear) == (5, 4)
    assert mapping.weight.dtype == mapping.bias.dtype == np.float32


def test_a_constant_is_added_to_each_row() -> None:
    rows = shifted(shifted(entries(2, 0, 2), [1.0, 2.0]), [10.0, 20.0])
    np.testing.assert_array_equal(rows, [[1, 0, 11], [0, 1, 22]])
