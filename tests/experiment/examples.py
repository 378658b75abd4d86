"""Options of runs: which there are, examples of their values, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.config import RunConfig, defaults
from mtrl_ntk.experiment.options.fields import Option, leaves, options
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD


def example(option: Option) -> object:
    """A possible value that is not the default."""
    if option.annotation is bool:
        return not option.default
    known: dict[str, object] = {
        "method": "equal",
        "network": "multi_head",
        "preset": "other",
        "suite": "own:tasks",
        "tasks": ("reach-v3",),
        "video_size": 96,
    }
    if option.name in known:
        return known[option.name]
    if option.of_suite:
        usual = METAWORLD.default(option.name)
        return next(each for each in METAWORLD.choices(option.name) if each != usual)
    candidates: dict[Any, list[object]] = {
        int: [2, 4],
        float: [0.5, 0.25],
        float | None: [-3.0],
        Path | None: [Path("some/where")],
        tuple[Path, ...]: [(Path("some/where.py"),)],
    }
    possible = candidates.get(option.annotation) or get_args(option.annotation)
    return next(each for each in possible if each != option.default)


def options_of(method: str) -> list[Option]:
    return options(defaults(method), section="Run")


def value_of(config: RunConfig, name: str) -> object:
    return next(value for each, value, _ in leaves(config) if each == name)


def refused_flags(*argv: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(argv, "train_mt10")
    return one_line(error)


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.strip()
    return text
