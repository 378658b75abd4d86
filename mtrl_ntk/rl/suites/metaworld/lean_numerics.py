"""What Meta-World computes with general routines, for the numbers that it has: bit for bit equal.

Each function has a stock counterpart with the same arguments, makes the same roundings in the same
order, and leaves to the counterpart what is not of the usual kind. Types matter too: a Python float
times a float32 is a float32, while a NumPy double times a float32 is a double.
"""

from __future__ import annotations

import math
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from metaworld.utils import reward_utils
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

_FLOAT64 = np.dtype(np.float64)
_DOUBLES = frozenset({float, int, np.float64})
"""Types whose arithmetic with one another is that of double precision."""
_VALUE_AT_MARGIN = 0.1
_LONG_TAIL_SCALE = np.sqrt(1 / _VALUE_AT_MARGIN - 1)


def norm(x: Any, ord: Any = None, **kwargs: Any) -> Any:  # noqa: ANN401
    """``np.linalg.norm``, quick for a vector of doubles."""
    is_usual = (
        type(x) is np.ndarray
        and x.ndim == 1
        and x.dtype is _FLOAT64
        # NumPy makes others contiguous first, and the sum of a strided vector may round otherwise.
        and x.flags.c_contiguous
        and (ord is None or ord == 2)
        and not kwargs
    )
    # The dot product is NumPy's own, since it may use fused multiply-adds.
    return np.float64(math.sqrt(x.dot(x))) if is_usual else np.linalg.norm(x, ord, **kwargs)


def tolerance(
    x: Any,  # noqa: ANN401
    bounds: tuple[Any, Any] = (0.0, 0.0),
    margin: Any = 0.0,  # noqa: ANN401
    sigmoid: Any = "gaussian",  # noqa: ANN401
    value_at_margin: float = _VALUE_AT_MARGIN,
) -> Any:  # noqa: ANN401
    """``reward_utils.tolerance``, quick for one number and a long tail."""
    lower, upper = bounds
    is_usual = (
        sigmoid == "long_tail"
        and value_at_margin == _VALUE_AT_MARGIN
        and type(x) in _DOUBLES
        and type(margin) in _DOUBLES
        and type(lower) in _DOUBLES
        and type(upper) in _DOUBLES
        and lower <= upper
        and margin >= 0
    )
    if not is_usual:
        return reward_utils.tolerance(x, bounds, margin, sigmoid, value_at_margin)
    if lower <= x <= upper:
        return 1.0
    if margin == 0:
        return 0.0
    distance = np.float64((lower - x if x < lower else x - upper) / margin)
    # A NumPy scalar, so that the power is NumPy's.
    return float(1 / ((distance * _LONG_TAIL_SCALE) ** 2 + 1))


class LeanRotation:
    """As much of SciPy's ``Rotation`` as Meta-World uses, for rotation matrices ``[3, 3]``."""

    def __init__(self, matrix: NDArray[np.float64]) -> None:
        self._matrix = matrix

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.float64]) -> LeanRotation:
        """A rotation from its matrix, which is taken to be orthogonal."""
        return cls(matrix)

    def as_quat(self) -> NDArray[np.float64]:
        """The unit quaternion ``[4]``, scalar last.

        MuJoCo makes its matrices of unit quaternions, so SciPy's determinant, Gramian and
        orthogonalisation change nothing. What remains is its choice of the largest of four numbers
        to divide by, first come first served.
        """
        (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = self._matrix.tolist()
        trace = m00 + m11 + m22
        if trace > m00 and trace > m11 and trace > m22:
            x, y, z, w = m21 - m12, m02 - m20, m10 - m01, 1 + trace
        elif m22 > m00 and m22 > m11:
            x, y, z, w = m02 + m20, m12 + m21, 1 - trace + 2 * m22, m10 - m01
        elif m11 > m00:
            x, y, z, w = m01 + m10, 1 - trace + 2 * m11, m12 + m21, m02 - m20
        else:
            x, y, z, w = 1 - trace + 2 * m00, m01 + m10, m02 + m20, m21 - m12
        squares = x * x + y * y + z * z + w * w
        # Between 4 and 16 for rotations; not so for zeros and NaN, for which SciPy has its errors.
        if not 3.9 < squares < 16.1:
            return _scipy_quaternions(self._matrix)
        length = math.sqrt(squares)
        return np.array((x / length, y / length, z / length, w / length))


def _scipy_quaternions(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    quaternions: NDArray[np.float64] = Rotation.from_matrix(matrices).as_quat()
    return quaternions


@cache
def rounds_as_scipy() -> bool:
    """Whether quaternions here are SciPy's: its compiler may have fused multiplies and adds."""
    # Whole numbers give the rotations at which two of the four numbers are equal.
    whole = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 4), axis=-1).reshape(-1, 4)
    drawn = np.random.default_rng(0).normal(size=(500, 4))
    quaternions = np.concatenate([whole[whole.any(axis=1)], drawn])
    matrices = Rotation.from_quat(quaternions).as_matrix()
    lean = np.stack([LeanRotation(matrix).as_quat() for matrix in matrices])
    return lean.tobytes() == _scipy_quaternions(matrices).tobytes()


def with_lean_numerics(function: FunctionType) -> FunctionType:
    """The same code, but where it names a stock routine of these, it finds the lean one."""
    known = function.__globals__
    found = {name: lean for name, stock, lean in _routines() if known.get(name) is stock}
    copy = FunctionType(
        function.__code__,
        known | found,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


@cache
def _routines() -> list[tuple[str, object, object]]:
    """What Meta-World's modules import: the name, the stock routine and the lean one."""
    return [
        ("np", np, _changed(np, linalg=_changed(np.linalg, norm=norm))),
        ("reward_utils", reward_utils, _changed(reward_utils, tolerance=tolerance)),
        ("tolerance", reward_utils.tolerance, tolerance),
        ("Rotation", Rotation, LeanRotation if rounds_as_scipy() else Rotation),
    ]


def _changed(module: ModuleType, **attributes: object) -> ModuleType:
    copy = ModuleType(module.__name__)
    vars(copy).update(vars(module) | attributes)
    return copy
