"""Fields of configurations, which say themselves what they may be and what depends on them."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mtrl_ntk.errors import ConfigError

T = TypeVar("T")

Decides = Literal["results", "length", "chance", "rounding", "nothing"]
"""What an option of a run decides: what is learnt or what its numbers mean; how far it goes; which
of many equal runs it is; the last bits of its numbers; or none of these."""

LARGEST_SEED = 2**32 - 1
"""What NumPy takes."""
MOST_PROCESSES = 1024
"""What no machine comes near, as a limit."""


@dataclass(frozen=True)
class Settings:
    """Base of frozen dataclasses whose fields are checked.

    Raises:
        ConfigError: A number is out of its bounds, or a word is none of those that are possible.
    """

    def __post_init__(self) -> None:
        cls: Any = type(self)
        types = _types(cls)
        for each in fields(self):
            value, bounds = getattr(self, each.name), each.metadata.get("bounds")
            if value is None and each.default is None:
                continue
            if bounds and (required := bounds.required_of(value, whole=int in types[each.name])):
                raise ConfigError(f"{each.name} is {value}; it must be {required}")
            choices = tuple(each.metadata.get("choices") or _words(types[each.name]))
            if choices and value not in choices:
                possible = ", ".join(choices)
                raise ConfigError(f"{each.name} is {value!r}; it must be one of {possible}")


@dataclass(frozen=True)
class Bounds:
    """The numbers that a field may have."""

    relations: Mapping[str, float]
    """Numbers by how values have to relate to them."""
    limit: float = 10**12
    """What no machine and no study gets near: above it is a slip of the finger, which would fill
    the memory or never end."""

    def required_of(self, value: Any, *, whole: bool) -> str | None:  # noqa: ANN401 - as it comes
        """What a value must be that is not; None if it is."""
        is_bool = isinstance(value, bool)  # which Python counts among the integers
        if whole and (is_bool or not issubclass(type(value), Integral)):
            return "a whole number"
        if is_bool or not issubclass(type(value), Real) or not -math.inf < value < math.inf:
            return "a finite number"
        if all(_RELATIONS[name](value, number) for name, number in self.relations.items()):
            return f"at most {self.limit}" if value > self.limit else None
        if self.relations.keys() == {"at least", "at most"}:
            return "from {} to {}".format(*self.relations.values())
        return " and ".join(f"{name} {number}" for name, number in self.relations.items())


_RELATIONS = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}


def check_number(name: str, value: Any, *, whole: bool = False, **relations: float) -> None:  # noqa: ANN401
    """Raises a ConfigError if an argument is no number within bounds, as of :func:`number`."""
    bounds = Bounds({each.replace("_", " "): bound for each, bound in relations.items()})
    if required := bounds.required_of(value, whole=whole):
        raise ConfigError(f"{name} is {value!r}; it must be {required}")


def check_kind(name: str, value: object, kind: type | tuple[type, ...], wanted: str) -> None:
    """Raises a ConfigError if an argument is of another type than those that it may be of."""
    if not isinstance(value, kind):
        shown = repr(value) if isinstance(value, str | type) else f"a {type(value).__name__}"
        raise ConfigError(f"{name} is {shown}; it must be {wanted}")


def number(
    default: T,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    limit: float = 10**12,
    **facts: object,
) -> T:
    """A field that is a number within bounds, with the facts that :func:`setting` takes."""
    numbers = zip(_RELATIONS, (at_least, above, at_most, below), strict=True)
    relations = {name: bound for name, bound in numbers if bound is not None}
    return setting(default, bounds=Bounds(relations, limit), **facts)


def setting(default: T, **facts: object) -> T:
    """A field with facts about it.

    Args:
        default: Its default.
        facts: What it ``decides``, if it is an option of a run; its ``choices``, where a table
            holds them; ``of_suite``, if the suite of the tasks says what is possible; and how
            commands spell it: ``flags``, ``alone`` and ``one_value``.
    """
    return field(default=default, metadata=facts)


@lru_cache
def _types(cls: type[Any]) -> dict[str, tuple[Any, ...]]:
    """The type of each field, and the types that it is made of."""
    return {name: (found, *get_args(found)) for name, found in get_type_hints(cls).items()}


def _words(types: Iterable[Any]) -> tuple[str, ...]:
    """The words that are possible, of a type that says so."""
    return tuple(word for each in types if get_origin(each) is Literal for word in get_args(each))
