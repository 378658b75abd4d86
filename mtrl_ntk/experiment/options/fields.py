"""Nested dataclasses as flat options: names, types, defaults, documentation.

Every leaf field of a configuration is one option: ``batch_size`` in a file, ``--batch-size`` on the
command line. Its type, default and documentation are those of the field.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from operator import getitem
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_type_hints

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.values import convert, shown

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One leaf field.

    Attributes:
        name: Field name, which is also the key in config files.
        annotation: Resolved type.
        default: Value when the option is not given.
        doc: Documentation of the field.
        section: Documentation of the nested dataclass that holds it.
        flags: Its command-line spellings; none for a key of config files only.
        alone: What a flag without a value stands for; None if it needs one.
        one_value: Whether a list is one argument, a,b, so that others may follow it.
        of_suite: Whether the suite of the tasks says what is possible.
    """

    name: str
    annotation: Any
    default: object
    doc: str
    section: str
    flags: tuple[str, ...]
    alone: str | None = None
    one_value: bool = False
    of_suite: bool = False


def options(config: object, section: str = "Options") -> list[Option]:
    """Lists the leaf fields of a dataclass instance; its values are the defaults."""
    cls: Any = type(config)
    docs, types = field_docs(cls), get_type_hints(cls)
    found: list[Option] = []
    for field in fields(config):  # type: ignore[arg-type]
        value, doc = getattr(config, field.name), docs.get(field.name, "")
        if is_dataclass(value):
            found += options(value, section=doc.removesuffix("."))
            continue
        # A table says what is possible, at the time that it is asked.
        names = field.metadata.get("choices")
        annotation = types[field.name] if names is None else getitem(Literal, tuple(names))
        flags = field.metadata.get("flags", ("--" + field.name.replace("_", "-"),))
        rest = {key: field.metadata[key] for key in _FACTS if key in field.metadata}
        found.append(Option(field.name, annotation, value, doc, section, flags, **rest))
    return found


_FACTS = ("alone", "one_value", "of_suite")


def leaves(
    config: object, section: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[tuple[str, object, Mapping[str, Any]]]:
    """Name, value and metadata of each leaf field; a section's metadata are those of its fields."""
    for field in fields(config):  # type: ignore[arg-type]
        value, facts = getattr(config, field.name), {**section, **field.metadata}
        if is_dataclass(value):
            yield from leaves(value, facts)
        elif isinstance(value, Mapping):  # a section whose fields are not known
            yield from ((name, each, facts) for name, each in value.items())
        else:
            yield field.name, value, facts


@lru_cache
def field_docs(cls: type[Any]) -> dict[str, str]:
    """Reads the docstrings that stand under the fields of a dataclass and of its bases."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not is_dataclass(base):
            continue
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):  # of a class that was typed in
            continue
        (definition,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(definition, ast.ClassDef)
        for field, doc in zip(definition.body, definition.body[1:], strict=False):
            match field, doc:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    docs[name] = " ".join(text.split())
    return docs


def updated(config: T, values: Mapping[str, object]) -> T:
    """Returns a copy of a nested dataclass with the leaf fields that ``values`` names replaced."""
    changes: dict[str, Any] = {}
    for field in fields(config):  # type: ignore[arg-type]
        current = getattr(config, field.name)
        if is_dataclass(current):
            changes[field.name] = updated(current, values)
        elif field.name in values:
            changes[field.name] = values[field.name]
    return replace(config, **changes)  # type: ignore[type-var]


def suggestion(name: str, possible: Iterable[str]) -> str:
    """Says which of the possible names was probably meant, or else lists them, if they are few."""
    names = list(possible)
    close = difflib.get_close_matches(name[:_LONGEST_NAME], names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"possible: {', '.join(names)}" if len(names) <= _MOST_LISTED else "--help lists all"


_LONGEST_NAME = 200
"""Longer ones are no typing errors, and would take long to compare."""
_MOST_LISTED = 30


def convert_values(
    known: Sequence[Option], values: Mapping[Any, object], source: str, elsewhere: Mapping[str, str]
) -> dict[str, object]:
    """Checks and converts the values of a mapping such as a config file.

    Args:
        known: The options that exist.
        values: Values by option name, as YAML gives them.
        source: Where they stand, for errors.
        elsewhere: Names that exist under other conditions, with the condition.

    Raises:
        ConfigError: A name is unknown or a value has the wrong type.
    """
    by_name = {option.name: option for option in known}
    for name in values:
        if name not in by_name:
            key = shown(name)
            hint = elsewhere.get(name) or suggestion(key.strip("'"), by_name)
            raise ConfigError(f"{source}: unknown key {key}; {hint}")
    return {
        name: convert(by_name[name].annotation, value, f"{source}: {name}")
        for name, value in values.items()
    }
