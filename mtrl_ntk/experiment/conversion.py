"""Values as YAML or the command line gives them, converted to the types of their fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from mtrl_ntk.errors import ConfigError


def convert(annotation: Any, value: object, label: str) -> object:  # noqa: ANN401 - as below
    """Converts a value to the type of its field.

    Args:
        annotation: The type.
        value: What YAML or the command line gives.
        label: Name of the value, for errors.

    Raises:
        ConfigError: The value cannot be converted.
    """
    if value is None and NoneType in get_args(annotation):
        return None
    annotation = without_none(annotation)
    try:
        if get_origin(annotation) is tuple:
            return tuple(_SCALARS[get_args(annotation)[0]](part) for part in _parts(value))
        if get_origin(annotation) is Literal:
            return _choice(value, get_args(annotation))
        return _SCALARS[annotation](value)
    except ValueError as expected:
        raise ConfigError(f"{label} is {value!r}; it must be {expected}") from None


def without_none(annotation: Any) -> Any:  # noqa: ANN401 - annotations have no common type
    """Returns the type of an optional value, and any other type as it is."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not NoneType)
    return annotation


def _parts(value: object) -> list[object]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list):
        return value
    raise ValueError("a list such as a,b")


def _choice(value: object, possible: tuple[str, ...]) -> str:
    for name in possible:
        if value == name:
            return name
    raise ValueError(f"one of {', '.join(possible)}")


def _real(value: object) -> float:
    # YAML 1.1 reads 3e-4, without a dot, as text.
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError("a finite number")


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
            return int(value)
        number = _real(value)  # 2e6 is a whole number
        if number.is_integer():
            return int(number)
    except ValueError:
        pass
    raise ValueError("a whole number")


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("text")


def _path(value: object) -> Path:
    if isinstance(value, str) and value:
        return Path(value)
    raise ValueError("a path")


_SCALARS: dict[Any, Callable[[object], object]] = {
    int: _whole,
    float: _real,
    bool: _truth,
    str: _string,
    Path: _path,
}
