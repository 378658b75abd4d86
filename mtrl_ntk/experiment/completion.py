"""What teaches a shell to complete the commands: their options, methods and tasks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import shtab

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.config import all_options
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.options.fields import Option, options, suggestion
from mtrl_ntk.experiment.options.parser import PRINT_COMPLETION, SHELLS, Parser
from mtrl_ntk.experiment.options.values import without_none
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.sweeps.options import NOT_SHARED, SweepOptions
from mtrl_ntk.experiment.training.command import DRY_RUN
from mtrl_ntk.rl.suites.registry import SUITES

_VALUES: Mapping[str, Sequence[str]] = {
    "method": tuple(METHODS),
    "methods": tuple(METHODS),
    "tasks": [task for suite in SUITES.values() for task in suite.tasks],
}
"""What options of free text take, by name."""


def completion_asked_for(argv: Sequence[str]) -> str | None:
    """The shell that a command line asks completion for, if it does.

    Raises:
        ConfigError: If it is none that can be taught.
    """
    parser = Parser("", add_help=False)
    parser.add_argument(PRINT_COMPLETION, dest="shell")
    shell = vars(parser.parse_known_args(argv)[0]).get("shell")
    if shell is not None and shell not in SHELLS:
        raise ConfigError(f"{PRINT_COMPLETION} is {shell!r}; {suggestion(shell, SHELLS)}")
    return None if shell is None else str(shell)


def completion(prog: str, shell: str) -> str:
    """A script that completes a command, for a shell to source."""
    parser = Parser(prog)
    known = _options_of(prog)
    parser.add_options(known)
    for flag in (DRY_RUN,) if prog == "train_mt10" else ():
        parser.add_argument(flag, action="store_true")
    if prog in ("train_mt10", "sweep_mt10"):
        _completes_files(parser.add_argument("--config"))
    if prog == "report_mt10":
        _completes_files(parser.add_argument("folders", nargs="*"))
    by_name = {option.name: option for option in known}
    for action in parser._actions:
        if action.dest in by_name:
            _complete_values(action, by_name[action.dest])
    script: str = shtab.complete(parser, shell)
    return script


def _options_of(prog: str) -> list[Option]:
    if prog == "train_mt10":
        return all_options()
    if prog == "evaluate_mt10":
        return options(EvaluationOptions())
    if prog == "report_mt10":
        return options(ReportOptions())
    own = options(SweepOptions())
    taken = {option.name for option in own} | {*NOT_SHARED}
    return own + [option for option in all_options() if option.name not in taken]


def _complete_values(action: argparse.Action, option: Option) -> None:
    annotation = without_none(option.annotation)
    if get_origin(annotation) is Literal:
        action.choices = get_args(annotation)
    elif option.name in _VALUES:
        action.choices = _VALUES[option.name]
    elif Path in (annotation, *get_args(annotation)):
        _completes_files(action)


def _completes_files(action: Any) -> None:  # noqa: ANN401 - shtab reads an attribute of its own
    action.complete = shtab.FILE
