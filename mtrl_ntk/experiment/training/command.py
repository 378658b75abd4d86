"""The command line of ``train_mt10``: defaults, a resumed run's settings, a file, flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.resume import settings_of
from mtrl_ntk.experiment.config import NEWEST, RUNS, RunConfig
from mtrl_ntk.experiment.families import C, Family, command_of
from mtrl_ntk.experiment.options.fields import Option, convert_values, options
from mtrl_ntk.experiment.options.parser import LISTS, Parser
from mtrl_ntk.experiment.options.presets import config_file
from mtrl_ntk.experiment.options.values import convert
from mtrl_ntk.experiment.plugins import all_methods, load_plugin
from mtrl_ntk.rl.suites.registry import load_suite
from mtrl_ntk.rl.suites.suite import Suite


class About(NamedTuple):
    """What the help of a command says."""

    description: str
    """What it does."""
    examples: str
    """Examples, which may name the program as {prog} and list {methods}."""
    files: str
    """What may be given to --config."""
    lists: tuple[str, ...] = LISTS
    """Flags that ask what there is."""


def load(argv: Sequence[str], prog: str) -> RunConfig:
    """Makes the configuration of a command: defaults, then ``--config``, then the command line.

    Suites, too, are those of the command line alone.

    Args:
        argv: Arguments without the program's name.
        prog: Name of the program, for its help.

    Raises:
        ConfigError: The command line or the config file is not possible.
        SystemExit: Help was asked for, and printed.
    """

    def named() -> dict[str, str]:
        suite = named_suite(argv)
        return {"suite": suite.name} if suite else {}

    return load_of(RUNS, argv, prog, _ABOUT, named)


def load_of(
    family: Family[C],
    argv: Sequence[str],
    prog: str,
    about: About,
    named: Callable[[], Mapping[str, str]] = dict,
) -> C:
    """Makes a configuration of a family: defaults, then ``--config``, then the command line.

    A run that is resumed has its own settings for defaults. Plugins are those of the command line
    alone: what a file names is never imported.

    Args:
        family: The kind of run.
        argv: Arguments without the program's name.
        prog: Name of the program, for its help.
        about: What the help says.
        named: What the command line names that has to be imported, by setting.

    Raises:
        ConfigError: The command line or the config file is not possible.
        SystemExit: Help was asked for, and printed.
    """
    first = Parser(prog, add_help=False)
    for name in ("config", "run-dir", *family.selectors):
        first.add_argument(f"--{name}")
    first.add_argument("--resume", nargs="?", const=str(NEWEST))
    plugins = load_plugins(argv)
    given = vars(first.parse_known_args(argv)[0]) | dict(named())
    asked = given.pop("config", None)
    file = None if asked is None else config_file(asked, family.presets)
    values = (family.read_settings(file) | given) if file else given
    resumed_from, resumed = _resumed_settings(values)
    if resumed and command_of(resumed) != family.command:
        raise ConfigError(f"{resumed_from} is of no run of {family.command}")
    settings = {**resumed, **values} | ({_PLUGIN: None} if plugins else {})
    selected = family.found(family.select(settings))
    known, elsewhere = family.known(selected), family.elsewhere(selected)
    values.pop(_PLUGIN, None)
    names = {option.name for option in known} - {_PLUGIN}
    kept = {name: value for name, value in resumed.items() if name in names}
    chosen = convert_values(known, kept, resumed_from, {})
    chosen |= convert_values(known, values, str(file or "command line"), elsewhere)
    if file:
        chosen.setdefault("preset", _preset(file))
    parser = _parser(prog, [_with_default(option, chosen) for option in known], about)
    return family.build({**chosen, **parser.parse(argv, elsewhere), **selected})


_PLUGIN = "plugin"


def load_plugins(argv: Sequence[str]) -> tuple[Path, ...]:
    """Imports the plugins that a command line names; returns their names.

    Raises:
        ConfigError: If one cannot be used.
    """
    parser = Parser("", add_help=False)
    parser.add_options(option for option in options(RunConfig()) if option.name == _PLUGIN)
    plugins = parser.parse_known(argv)[0].get(_PLUGIN, ())
    assert isinstance(plugins, tuple)
    for plugin in plugins:
        load_plugin(plugin)
    return plugins


def named_suite(argv: Sequence[str]) -> Suite | None:
    """Imports the suite that a command line names, if it names one.

    Raises:
        ConfigError: If it cannot be used.
    """
    parser = Parser("", add_help=False)
    parser.add_argument("--suite")
    name = vars(parser.parse_known_args(argv)[0]).get("suite")
    return None if name is None else load_suite(name)


def _resumed_settings(values: Mapping[Any, Any]) -> tuple[str, Mapping[str, object]]:
    """The settings of the run that is to be resumed, and where they stand; none for a new run."""
    resume, run_dir = (
        convert(Path | None, values.get(name), name) for name in ("resume", "run_dir")
    )
    if not isinstance(resume, Path):
        return "", {}
    return settings_of(resume, run_dir if isinstance(run_dir, Path) else None)


def _preset(file: Path) -> str:
    """The name of a preset: that of its file, without what names of presets may not hold."""
    return re.sub(r"[^\w.-]+", "_", file.stem).lstrip(".-") or "config"


DRY_RUN = "--dry-run"
"""A flag that is no setting: it asks what a run would be."""

_DESCRIPTION = """\
Trains one multi-task SAC agent on Meta-World tasks or your own, balanced by a method.

Settings are taken from the defaults, then from --config, then from the command line; of a
flag given twice the last counts, but every --plugin. The defaults are the Meta-World+ protocol. A
vector step steps every environment once. Switches that are on are turned off by --no-NAME."""

_EPILOG = """\
examples:
  {prog} --config mt10_quick --seed 3
  {prog} --method equal --tasks reach-v3,push-v3 --total-steps 50000
  {prog} --config my.yaml --dry-run  # what would be trained, and the time and memory it takes
  {prog} --method ntkmtl --help     # shows the options of that method
  {prog} --plugin my_method.py --method mine  # a method of your own, see docs/adding_a_method.md
  {prog} --suite my_tasks.py:make_tasks  # tasks of your own, as docs/own_tasks.md shows

methods: {methods}"""


_ABOUT = About(
    _DESCRIPTION, _EPILOG, "a preset, such as mt10_quick, or a YAML file of settings by option name"
)


def _parser(prog: str, known: Sequence[Option], about: About) -> Parser:
    parser = Parser(
        prog,
        lists=about.lists,
        usage="%(prog)s [--config NAME] [options]",
        description=about.description,
        epilog=about.examples.format(prog=prog, methods=", ".join(all_methods())),
    )
    parser.add_argument(
        "--config",
        metavar="NAME",
        help=about.files,
    )
    parser.add_argument(
        DRY_RUN,
        action="store_true",
        help="show all settings, where the run would write and what it would take: time, memory, "
        "disk; write nothing",
    )
    parser.add_options(known)
    return parser


def _with_default(option: Option, chosen: Mapping[str, object]) -> Option:
    return replace(option, default=chosen.get(option.name, option.default))
