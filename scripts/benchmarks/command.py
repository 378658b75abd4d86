"""What the benchmark programs share as commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.options.fields import options, suggestion, updated
from mtrl_ntk.experiment.options.parser import Parser

Options = TypeVar("Options")


def parse(prog: str, description: str | None, defaults: Options, argv: Sequence[str]) -> Options:
    """Reads a program's options from its command line.

    Raises:
        UserError: If the arguments cannot be used.
    """
    parser = Parser(prog, description=description or "")
    parser.add_options(options(defaults))
    return updated(defaults, parser.parse(argv, elsewhere={}))


def check_names(name: str, values: Sequence[str], possible: Sequence[str]) -> None:
    """Raises a ConfigError at the first value of an option that is not a possible one."""
    for value in values:
        if value not in possible:
            raise ConfigError(f"{name}: unknown {value!r}; {suggestion(value, possible)}")


def check_folder(name: str, path: Path | None) -> None:
    """Raises a ConfigError if the folder of a file that an option names does not exist."""
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"{name} is {path}; its folder does not exist")


def write_rows(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows of a table to a JSON file, if one was asked for."""
    if path is not None:
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def run_command(prog: str, run: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Runs a program; a mistake of the user is one line and the exit code 2."""
    try:
        run(argv)
    except UserError as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
