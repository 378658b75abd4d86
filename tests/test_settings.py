"""Fields of configurations: what they refuse, from Python as from the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.settings import Settings, check_kind, check_number, number, setting


@dataclass(frozen=True)
class Example(Settings):
    """A field of each kind."""

    count: int = number(2, at_least=1)
    rate: float = number(0.5, above=0, limit=100)
    share: float = number(0.5, above=0, at_most=1)
    decay: float = number(0.5, at_least=0, below=1)
    size: int = number(64, at_least=64, at_most=1920)
    perhaps: int | None = number(None, at_least=0)
    free: float = -1.0
    word: Literal["a", "b"] = "a"
    table: str = setting("e", choices={"e": 1, "f": 2})
    either: Literal["c", "d"] | None = setting(None, flags=("--other",))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 0}, "count is 0; it must be at least 1"),
        ({"count": 10**13}, "count is 10000000000000; it must be at most 1000000000000"),
        ({"rate": 0}, "rate is 0; it must be above 0"),
        ({"rate": 1e300}, "rate is 1e+300; it must be at most 100"),
        ({"share": 2}, "share is 2; it must be above 0 and at most 1"),
        ({"decay": 1}, "decay is 1; it must be at least 0 and below 1"),
        ({"size": 63}, "size is 63; it must be from 64 to 1920"),
        ({"size": 1921}, "size is 1921; it must be from 64 to 1920"),
        ({"perhaps": -1}, "perhaps is -1; it must be at least 0"),
        ({"rate": math.nan}, "rate is nan; it must be a finite number"),
        ({"rate": math.inf}, "rate is inf; it must be a finite number"),
        ({"rate": "1"}, "rate is 1; it must be a finite number"),
        ({"count": 2.5}, "count is 2.5; it must be a whole number"),
        ({"perhaps": 2.0}, "perhaps is 2.0; it must be a whole number"),
        ({"count": "2"}, "count is 2; it must be a whole number"),
        ({"count": True}, "count is True; it must be a whole number"),
        ({"rate": True}, "rate is True; it must be a finite number"),
        ({"rate": None}, "rate is None; it must be a finite number"),
        ({"word": "c"}, "word is 'c'; it must be one of a, b"),
        ({"word": None}, "word is None; it must be one of a, b"),
        ({"table": "a"}, "table is 'a'; it must be one of e, f"),
        ({"either": "a"}, "either is 'a'; it must be one of c, d"),
    ],
)
def test_what_is_not_possible_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Example(**values)
    assert str(error.value) == said


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"count": 1, "rate": 100, "share": 1, "decay": 0, "size": 1920, "perhaps": 0},
        {"count": np.int64(3), "rate": np.float32(0.5)},
        {"free": math.inf, "perhaps": None, "word": "b", "either": "c"},
    ],
)
def test_what_is_possible_is_taken_as_it_is(values: dict[str, Any]) -> None:
    example = Example(**values)
    assert all(getattr(example, name) is value for name, value in values.items())


@pytest.mark.parametrize("value", [2, np.int64(2)])
def test_arguments_within_bounds_are_taken(value: object) -> None:
    check_number("rows", value, whole=True, at_least=1)
    check_number("rows", value, above=1, at_most=2)
    check_kind("rows", value, (int, np.integer), "a number")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "rows is 0; it must be at least 1"),
        (1.5, "rows is 1.5; it must be a whole number"),
        (math.nan, "rows is nan; it must be a whole number"),
        (True, "rows is True; it must be a whole number"),
        ("2", "rows is '2'; it must be a whole number"),
        (None, "rows is None; it must be a whole number"),
    ],
)
def test_arguments_that_cannot_be_meant_are_named(value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}$"):
        check_number("rows", value, whole=True, at_least=1)


@pytest.mark.parametrize(("value", "shown"), [("a", "'a'"), (int, "<class 'int'>"), ([], "a list")])
def test_arguments_of_other_types_are_named(value: object, shown: str) -> None:
    with pytest.raises(ConfigError, match=f"^path is {shown}; it must be a number$"):
        check_kind("path", value, float, "a number")
