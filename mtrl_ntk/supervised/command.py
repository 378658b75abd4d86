"""The command line of ``train_supervised``."""

from __future__ import annotations

from collections.abc import Sequence

from mtrl_ntk.experiment.options.parser import SUPERVISED_LISTS
from mtrl_ntk.experiment.training.command import About, load_of
from mtrl_ntk.supervised.config import SUPERVISED, SupervisedConfig

_ABOUT = About(
    """\
Trains one network on several tasks of a data set, balanced by a method.

Settings are taken from the defaults, then from --config, then from the command line; of a
flag given twice the last counts, but every --plugin. The defaults are those of the data set, which
are the preset of its name. With one task, as in --tasks depth, it is a single-task run, which
reports compare with. Switches that are on are turned off by --no-NAME.""",
    """\
examples:
  {prog} --config digits --seed 3
  {prog} --dataset digits --method equal --epochs 5
  {prog} --dataset digits --method equal --tasks left  # alone, to compare with
  {prog} --config my.yaml --dry-run  # what would be trained, and the time and memory it takes
  {prog} --method ntkmtl_sr --help   # shows the options of that method; likewise --dataset

methods: {methods}""",
    "a preset, such as digits, or a YAML file of settings by option name",
    SUPERVISED_LISTS,
)


def load(argv: Sequence[str], prog: str) -> SupervisedConfig:
    """Makes the configuration of a command: defaults, then ``--config``, then the command line.

    Args:
        argv: Arguments without the program's name.
        prog: Name of the program, for its help.

    Raises:
        ConfigError: The command line or the config file is not possible.
        SystemExit: Help was asked for, and printed.
    """
    return load_of(SUPERVISED, argv, prog, _ABOUT)
