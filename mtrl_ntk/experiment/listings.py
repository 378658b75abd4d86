"""What there is to choose from, of each kind a line for each, that begins with its name."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Sequence

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment.checkpoints.pretrained import COMMAND, pretrained
from mtrl_ntk.experiment.evaluation.results import RESULT_JSON
from mtrl_ntk.experiment.options.presets import presets, purpose
from mtrl_ntk.experiment.plugins import all_methods
from mtrl_ntk.experiment.training.command import load_plugins, named_suite
from mtrl_ntk.rl.suites.registry import SUITES
from mtrl_ntk.rl.suites.suite import Suite


def listing(flag: str, argv: Sequence[str]) -> list[str]:
    """The lines that answer one of the flags ``--list-...``.

    Args:
        flag: The flag.
        argv: The command line, whose plugins may have methods of their own; tasks are those of the
            suite that it names, or of all of the package.

    Raises:
        ConfigError: If a plugin or the suite cannot be used.
    """
    load_plugins(argv)
    suite = named_suite(argv)
    if flag == "--list-tasks":
        found = _tasks([suite] if suite else [each for each in SUITES.values() if not each.source])
    else:
        others = {
            "--list-methods": methods,
            "--list-presets": _presets,
            "--list-pretrained": _pretrained,
        }
        found = others[flag]()
    return in_columns(found)


def in_columns(found: Iterable[tuple[str, str]]) -> list[str]:
    """Names, each with what is to be said of it, in lines."""
    rows = list(found)
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {about}".rstrip() for name, about in rows]


def _tasks(suites: Sequence[Suite]) -> Iterator[tuple[str, str]]:
    for suite in suites:
        for task in suite.tasks:
            held = [name for name, tasks in suite.benchmarks.items() if task in tasks]
            yield task, ", ".join(held)


def methods() -> Iterator[tuple[str, str]]:
    """The balancing methods."""
    for name in all_methods():  # those of installed packages are not imported for it
        text = inspect.getdoc(METHODS[name]) if name in METHODS else None
        yield name, (text or "").partition("\n")[0]


def _presets() -> Iterator[tuple[str, str]]:
    return ((name, purpose(file)) for name, file in presets().items())


def _pretrained() -> Iterator[tuple[str, str]]:
    for name, folder in pretrained().items():
        result = json.loads((folder / RESULT_JSON).read_text(encoding="utf-8"))
        command = (folder / COMMAND).read_text(encoding="utf-8").strip()
        success = f"{result['mean_success_rate']:.1%} success on unseen goals"
        yield name, f"{success}, {len(result['tasks'])} tasks: {command}"
