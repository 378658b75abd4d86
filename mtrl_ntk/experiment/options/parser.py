"""The command line of options, with one clear line for each mistake."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.fields import Option, suggestion
from mtrl_ntk.experiment.options.values import convert, shown, without_none

VERSION = "--version"
LISTS = ("--list-tasks", "--list-methods", "--list-presets", "--list-pretrained")
SUPERVISED_LISTS = (*LISTS[:3], "--list-datasets", "--list-networks")
"""Those of the commands of supervised runs."""
PRINT_COMPLETION = "--print-completion"
SHELLS = ("bash", "zsh", "tcsh")
"""Shells that can be taught to complete the commands."""


class Parser(argparse.ArgumentParser):
    """An argument parser for options, whose errors are :class:`ConfigError`."""

    def __init__(
        self, prog: str, add_help: bool = True, lists: Sequence[str] = LISTS, **texts: str
    ) -> None:
        super().__init__(
            prog,
            add_help=add_help,
            allow_abbrev=False,  # an abbreviation changes its meaning when an option is added
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **texts,  # type: ignore[arg-type]
        )
        self._known: list[Option] = []
        if add_help:
            self.add_argument(VERSION, action="store_true", help="print the version of the package")
            for flag in lists:
                what = flag.removeprefix("--list-")
                self.add_argument(flag, action="store_true", help=f"print what {what} there are")
            self.add_argument(
                PRINT_COMPLETION,
                metavar="{" + ",".join(SHELLS) + "}",
                help="print a script for the shell to source, which then completes this command",
            )

    def add_options(self, known: Iterable[Option]) -> None:
        """Adds one flag per option, in one group per section."""
        groups: dict[str, argparse._ArgumentGroup] = {}
        for option in known:
            if not option.flags:
                continue
            if option.section not in groups:
                groups[option.section] = self.add_argument_group(option.section)
            keywords = _argument_keywords(option)
            groups[option.section].add_argument(*option.flags, dest=option.name, **keywords)
            self._known.append(option)

    def parse(self, argv: Sequence[str], elsewhere: Mapping[str, str]) -> dict[str, object]:
        """Returns the values of the options that the command line gives.

        Args:
            argv: Arguments without the program's name.
            elsewhere: Names that exist under other conditions, with the condition.

        Raises:
            ConfigError: A flag is unknown or a value has the wrong type.
        """
        values, unknown = self.parse_known(argv)
        if unknown:
            raise ConfigError(self._why_not(unknown[0], elsewhere))
        return values

    def _why_not(self, argument: str, elsewhere: Mapping[str, str]) -> str:
        """What to say about an argument that belongs to no option."""
        flag = argument.split("=")[0]
        if argument.lower() in _TRUTHS:
            return f"unexpected argument {argument!r}; a switch takes no value: --NAME or --no-NAME"
        if not re.fullmatch(r"--[\w-]+", flag):
            return f"unexpected argument {shown(argument)}; --help shows the usage"
        hint = elsewhere.get(flag[2:].replace("-", "_"))
        return f"unknown option {flag}; {hint or suggestion(flag, self._option_string_actions)}"

    def parse_known(self, argv: Sequence[str]) -> tuple[dict[str, object], list[str]]:
        """Returns the values of the options that the command line gives, and what is none of them.

        Raises:
            ConfigError: A value has the wrong type.
        """
        namespace, unknown = self.parse_known_args(argv)
        given = vars(namespace)
        values = {
            option.name: _convert_text(option, given[option.name])
            for option in self._known
            if option.name in given
        }
        return values, unknown

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage, which would bury the message."""
        message = message.removeprefix("argument ")
        if "ignored explicit argument" in message:
            message = f"{message.split(':')[0]} is a switch and takes no value"
        raise ConfigError(f"{message}; --help shows the usage")


_TRUTHS = frozenset({"true", "false", "yes", "no", "on", "off"})


def _argument_keywords(option: Option) -> dict[str, Any]:
    """How argparse reads and describes an option."""
    unset = option.default is None or option.default == ()
    default = "" if unset else f" (default: {_text(option.default)})"
    # argparse formats help texts with %.
    keywords: dict[str, Any] = {"help": (option.doc + default).replace("%", "%%")}
    if option.annotation is bool:
        return keywords | {"action": argparse.BooleanOptionalAction}
    if get_origin(option.annotation) is tuple:
        if Path in get_args(option.annotation):  # has no commas to make a list of one argument
            return keywords | {"nargs": "+", "metavar": "PATH", "action": "extend"}
        return keywords | {"nargs": None if option.one_value else "+", "metavar": "A,B"}
    if option.alone is not None:
        keywords |= {"nargs": "?", "const": option.alone}
    return keywords | {"metavar": _metavar(option.annotation)}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _metavar(annotation: Any) -> str:  # noqa: ANN401 - annotations have no common type
    annotation = without_none(annotation)
    if get_origin(annotation) is Literal:
        return "{" + ",".join(get_args(annotation)) + "}"
    names = {int: "N", float: "X", Path: "PATH", str: "NAME"}
    return names[annotation]


def _convert_text(option: Option, value: object) -> object:
    """Converts what argparse read: text, a list of texts, or a truth value."""
    if get_origin(option.annotation) is tuple:
        parts = [value] if isinstance(value, str) else value
        assert isinstance(parts, list)
        if not ",".join(parts).strip(" ,"):
            raise ConfigError(f"{option.flags[0]} is empty; give at least one, or leave it out")
        # The names of paths may hold commas.
        value = parts if Path in get_args(option.annotation) else ",".join(parts)
    return convert(option.annotation, value, option.flags[0])
