"""What teaches a shell to complete the commands: their options, methods, tasks and presets."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import shtab

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.pretrained import pretrained
from mtrl_ntk.experiment.config import all_options, with_choices
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.options.fields import Option, options, suggestion
from mtrl_ntk.experiment.options.parser import PRINT_COMPLETION, SHELLS, Parser
from mtrl_ntk.experiment.options.presets import presets
from mtrl_ntk.experiment.options.values import without_none
from mtrl_ntk.experiment.reports.anchors import anchor_keys
from mtrl_ntk.experiment.reports.options import METRICS, ReportOptions
from mtrl_ntk.experiment.sweeps.options import NOT_SHARED, SweepOptions
from mtrl_ntk.experiment.training.command import DRY_RUN
from mtrl_ntk.rl.suites.registry import DEFAULT_SUITE, SUITES

_VALUES: Mapping[str, Callable[[], Sequence[str]]] = {
    "method": lambda: tuple(METHODS),
    "methods": lambda: tuple(METHODS),
    "tasks": lambda: [task for suite in SUITES.values() for task in suite.tasks],
    "metrics": lambda: METRICS,
    "anchors": anchor_keys,
    "pretrained": lambda: tuple(pretrained()),
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
    return script_of(Parser(prog), shell, _options_of(prog), tuple(presets()))


def script_of(
    parser: Parser,
    shell: str,
    known: Sequence[Option],
    config_names: Sequence[str],
    values: Mapping[str, Callable[[], Sequence[str]]] = {},
) -> str:
    """A script that completes a command with options, for a shell to source.

    Args:
        parser: A parser without them; its program's name says what else the command takes.
        shell: The shell.
        known: The options.
        config_names: Presets.
        values: What options of free text take, by name, where that is not as for ``train_mt10``.
    """
    parser.add_options(known)
    what = parser.prog.partition("_")[0]
    if what == "train":
        parser.add_argument(DRY_RUN, action="store_true")
    if what in ("train", "sweep"):
        _completes(parser.add_argument("--config"), _CONFIG)
    else:
        _completes(parser.add_argument("folders", nargs="*"), shtab.FILE)
    by_name = {option.name: option for option in known}
    for action in parser._actions:
        if action.dest in by_name:
            _complete_values(action, by_name[action.dest], {**_VALUES, **values})
    function = _CONFIG_FUNCTIONS.get(shell, "").format(names=" ".join(config_names))
    script: str = shtab.complete(parser, shell, preamble=function)
    return script


_CONFIG = {"bash": "_mtrl_ntk_config", "zsh": "_mtrl_ntk_config", "tcsh": "f"}
"""What completes ``--config`` in each shell; tcsh knows one kind of word for an option: files."""
_CONFIG_FUNCTIONS = {
    "bash": '_mtrl_ntk_config() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": "_mtrl_ntk_config() {{ _alternative 'presets:preset:({names})' 'files:file:_files' }}",
}


def _options_of(prog: str) -> list[Option]:
    if prog == "train_mt10":
        return all_options()
    if prog == "evaluate_mt10":
        return [with_choices(option, DEFAULT_SUITE) for option in options(EvaluationOptions())]
    if prog == "report_mt10":
        return options(ReportOptions())
    own = options(SweepOptions())
    taken = {option.name for option in own} | {*NOT_SHARED}
    return own + [option for option in all_options() if option.name not in taken]


def _complete_values(
    action: argparse.Action, option: Option, values: Mapping[str, Callable[[], Sequence[str]]]
) -> None:
    annotation = without_none(option.annotation)
    if get_origin(annotation) is Literal:
        action.choices = get_args(annotation)
    elif get_origin(annotation) is tuple and option.name in values:
        _completes_list(action, option.name, values[option.name]())
    elif option.name in values:
        action.choices = values[option.name]()
    elif Path in (annotation, *get_args(annotation)):
        _completes(action, shtab.FILE)


def _completes_list(action: argparse.Action, name: str, values: Sequence[str]) -> None:
    """Completes what follows the last comma, too; in tcsh the first value only."""
    words, function = " ".join(values), f"_mtrl_ntk_{name}"
    how = {"bash": function, "zsh": f"_values -s , {name} {words}", "tcsh": f"({words})"}
    preamble = {"bash": _BASH_LIST.format(function=function, words=words)}
    _completes(action, {**how, "preamble": preamble})


_BASH_LIST = """\
{function}() {{
  local given="" word
  [[ $1 == *,* ]] && given="${{1%,*}},"
  for word in {words}; do
    [[ ",$given" == *",$word,"* ]] || compgen -P "$given" -W "$word" -- "${{1##*,}}"
  done
}}
"""


def _completes(action: Any, how: Mapping[str, Any]) -> None:  # noqa: ANN401 - an attribute of shtab's
    action.complete = how
