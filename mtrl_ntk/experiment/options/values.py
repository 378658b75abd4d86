"""Values as YAML or the command line gives them, converted to the types of their fields."""

from __future__ import annotations

import math
import os
import re
import reprlib
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
    if value in (None, "none") and NoneType in get_args(annotation):
        return None
    annotation = without_none(annotation)
    try:
        if get_origin(annotation) is tuple:
            return tuple(_SCALARS[get_args(annotation)[0]](part) for part in _parts(value))
        if get_origin(annotation) is Literal:
            return _choice(value, get_args(annotation))
        return _SCALARS[annotation](value)
    except ValueError as expected:
        raise ConfigError(f"{label} is {shown(value)}; it must be {expected}") from None


def shown(value: object) -> str:
    """Returns a value as an error shows it: short, however long or deeply nested it is."""
    return "empty" if value is None else _SHORT.repr(value)


def counted(number: int, thing: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


class _Short(reprlib.Repr):
    """Python refuses to write out an integer of thousands of digits."""

    def repr_int(self, value: int, level: int) -> str:
        if value.bit_length() > _MOST_BITS:
            return "a huge number"
        return super().repr_int(value, level)


_SHORT = _Short()
_SHORT.maxstring = 80
_MOST_BITS = 256


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
    number = _as_float(value)
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def _as_float(value: object) -> float:
    """The number, or NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    if isinstance(value, str) and not value.isascii():
        return math.nan  # Python also reads the digits of other scripts
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _whole(value: object) -> int:
    number = _as_int(value)
    if number is None:
        raise ValueError("a whole number")
    if abs(number) >= 1 << 63:
        raise ValueError("a whole number of at most 18 digits")
    return number


def _as_int(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+(_\d+)*\s*", value, re.ASCII):
            return int(value)
    except ValueError:  # thousands of digits
        return None
    number = _as_float(value)  # 2e6 is a whole number
    return int(number) if number.is_integer() else None


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("text")


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path")
    if re.search(r"[\ud800-\udfff]", value):  # what Python makes of other bytes
        raise ValueError("a path of UTF-8 text, as libraries open no other")
    # Longer ones the system refuses, wherever they are first looked for.
    if len(value) > 4000 or any(len(os.fsencode(part)) > 255 for part in Path(value).parts):
        raise ValueError("a path, with names of at most 255 bytes")
    # Shells leave the ~ of --run-dir=~/runs as it is; nobody expands those in files.
    return Path(os.path.expanduser(value))


_SCALARS: dict[Any, Callable[[object], object]] = {
    int: _whole,
    float: _real,
    bool: _truth,
    str: _string,
    Path: _path,
}
