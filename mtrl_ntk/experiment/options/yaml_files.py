"""YAML files of settings, read strictly: what they never need, and what could do harm, is refused.

A file from a stranger must neither run code nor fill the memory, and a mistake in one's own must
not pass unseen: YAML itself lets the second of two equal keys win.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.fields import suggestion

_MOST_BYTES = 100_000
"""Far above any file of settings; what is larger would only take long to read."""


def read_values(path: Path) -> dict[Any, Any]:
    """Reads a YAML file of values by name.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
    text = _read_text(path)
    try:
        values = _StrictLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:  # the last two: odd escapes
        raise ConfigError(f"config file {path} is not valid YAML: {_reason(error)}") from None
    except RecursionError:
        raise ConfigError(f"config file {path} is nested too deeply") from None
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"config file {path} must hold lines of the form 'name: value'")
    return values


def _read_text(path: Path) -> str:
    if not path.exists():
        present = sorted(str(file) for file in path.parent.glob("*.yaml"))
        hint = f"; {suggestion(str(path), present)}" if present else ""
        raise ConfigError(f"config file {path} does not exist{hint}")
    if not path.is_file():
        raise ConfigError(f"{path} is not a file; --config wants a YAML file")
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read config file {path}: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES} bytes: it is no config file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"config file {path} is not UTF-8 text: line {line}") from None


class _StrictLoader(yaml.SafeLoader):
    """Plain values only: no aliases, which can grow without bound, no tags, no key twice.

    A number is the text that the command line converts as well: YAML 1.1 itself takes 010 for 8,
    1:30 for 90 and 0x10 for 16.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as the base class declares it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _problem("aliases (*) are not read; write the value out", event)
        if getattr(event, "tag", None):
            raise _problem("tags (!) are not read; write the value alone", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        values = super().construct_mapping(node, deep)
        if len(values) < len(node.value):
            keys = [key for key, _ in node.value]
            names = [key.value for key in keys]
            twice = next((key for n, key in enumerate(keys) if key.value in names[:n]), keys[-1])
            raise _problem(f"{twice.value} is given twice", twice)
        return values


for _tag, _written, _initials in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "|~|null|Null|NULL", ["", *"~nN"]),
):
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_written})$"), list(_initials)
    )


def _problem(text: str, where: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=where.start_mark)  # type: ignore[arg-type]


def _reason(error: Exception) -> str:
    """What is wrong, and in which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
