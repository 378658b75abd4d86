"""Numerics without the Python that changes no bit, against those of the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from metaworld.utils import reward_utils
from scipy.spatial.transform import Rotation

from mtrl_ntk.rl.suites.metaworld import lean_numerics
from tests.sameness import is_same


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e9])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_norm(scale: float, dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 4, 17):
        for _ in range(20):
            x = (scale * rng.normal(size=size)).astype(dtype)
            wide = (scale * rng.normal(size=(size, 2))).astype(dtype)
            for vector in (x, x[0], x[::2], wide[:, 1], wide, list(x)):
                assert is_same(lean_numerics.norm(vector), np.linalg.norm(vector))
            assert is_same(lean_numerics.norm(x, ord=2), np.linalg.norm(x, ord=2))
            assert is_same(lean_numerics.norm(x, ord=1), np.linalg.norm(x, ord=1))
            assert is_same(lean_numerics.norm(wide, axis=0), np.linalg.norm(wide, axis=0))


@pytest.mark.parametrize("sigmoid", ["long_tail", "gaussian"])
@pytest.mark.parametrize("number", [float, np.float64, np.float32, np.asarray])
def test_tolerance(sigmoid: Any, number: Any) -> None:  # noqa: ANN401
    rng = np.random.default_rng(0)
    for _ in range(300):
        lower, width, margin = 0.1 * rng.exponential(size=3)
        arguments = {
            "bounds": (0, width) if rng.random() < 0.5 else (lower, lower + width),
            "margin": number(rng.choice([0.0, margin])),
            "sigmoid": sigmoid,
        }
        for x in (number(rng.normal(0.0, 0.3)), number(arguments["bounds"][1]), number(np.nan)):
            result = lean_numerics.tolerance(x, **arguments)
            assert is_same(result, reward_utils.tolerance(x, **arguments))


@pytest.mark.parametrize("arguments", [{"bounds": (1, 0)}, {"margin": -1.0}])
def test_tolerance_refuses_what_the_library_refuses(arguments: dict[str, Any]) -> None:
    for tolerance in (lean_numerics.tolerance, reward_utils.tolerance):
        with pytest.raises(ValueError, match=r"bound|margin"):
            tolerance(0.5, sigmoid="long_tail", **arguments)


def test_tolerance_with_another_value_at_the_margin() -> None:
    arguments: Any = {"margin": 0.5, "sigmoid": "long_tail", "value_at_margin": 0.3}
    result = lean_numerics.tolerance(0.7, **arguments)
    assert is_same(result, reward_utils.tolerance(0.7, **arguments))


def test_quaternions() -> None:
    rng = np.random.default_rng(1)
    for quaternion in rng.normal(size=(300, 4)):
        matrix = Rotation.from_quat(quaternion).as_matrix()
        lean = lean_numerics.LeanRotation.from_matrix(matrix).as_quat()
        assert is_same(lean, Rotation.from_matrix(matrix).as_quat())
    assert lean_numerics.rounds_as_scipy()


def test_what_is_no_rotation_is_left_to_scipy() -> None:
    def outcome(rotation: Any) -> object:  # noqa: ANN401 - SciPy ships no types
        try:
            return rotation.from_matrix(np.zeros((3, 3))).as_quat().tolist()
        except ValueError as error:  # which SciPy 1.11 does not raise
            return str(error)

    assert outcome(lean_numerics.LeanRotation) == outcome(Rotation)


def test_scipy_is_kept_where_it_rounds_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_numerics, "rounds_as_scipy", lambda: False)
    routines = {name: lean for name, _, lean in lean_numerics._routines.__wrapped__()}
    assert routines["Rotation"] is Rotation
    monkeypatch.undo()
    nearly = lean_numerics.LeanRotation.as_quat
    monkeypatch.setattr(
        lean_numerics.LeanRotation, "as_quat", lambda self: np.nextafter(nearly(self), 2.0)
    )
    assert not lean_numerics.rounds_as_scipy.__wrapped__()
