"""What the commands of supervised runs answer: what there is, and completion in shells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mtrl_ntk.experiment.completion import script_of
from mtrl_ntk.experiment.listings import in_columns, methods
from mtrl_ntk.experiment.options.fields import options
from mtrl_ntk.experiment.options.parser import SUPERVISED_LISTS, Parser
from mtrl_ntk.experiment.options.presets import presets, purpose
from mtrl_ntk.experiment.sweeps.options import NOT_SHARED, SweepOptions
from mtrl_ntk.experiment.training.command import load_plugins
from mtrl_ntk.supervised.config import SUPERVISED
from mtrl_ntk.supervised.datasets.registry import DATASETS
from mtrl_ntk.supervised.networks.registry import NETWORKS


def listing(flag: str, argv: Sequence[str]) -> list[str]:
    """The lines that answer one of the flags ``--list-...``.

    Raises:
        ConfigError: If a plugin cannot be used.
    """
    load_plugins(argv)
    found: Mapping[str, Callable[[], Iterator[tuple[str, str]]]] = {
        "--list-tasks": _tasks,
        "--list-methods": methods,
        "--list-presets": _presets,
        "--list-datasets": _datasets,
        "--list-networks": _networks,
    }
    return in_columns(found[flag]())


def _tasks() -> Iterator[tuple[str, str]]:
    for dataset in DATASETS.values():
        for task in dataset.task_names:
            yield task, dataset.name


def _presets() -> Iterator[tuple[str, str]]:
    return ((name, purpose(file)) for name, file in presets(SUPERVISED.presets).items())


def _datasets() -> Iterator[tuple[str, str]]:
    return ((name, dataset.title) for name, dataset in DATASETS.items())


def _networks() -> Iterator[tuple[str, str]]:
    for name, network in NETWORKS.items():
        fits = [each for each, dataset in DATASETS.items() if name in dataset.networks]
        about = (network.__doc__ or "").partition("\n")[0]
        yield name, f"{about} For {', '.join(fits)}."


def completion(prog: str, shell: str) -> str:
    """A script that completes a command, for a shell to source."""
    parser, known = Parser(prog, lists=SUPERVISED_LISTS), SUPERVISED.all_options()
    if prog.startswith("sweep"):
        own = options(SweepOptions())
        taken = {option.name for option in own} | {*NOT_SHARED}
        known = own + [option for option in known if option.name not in taken]
    values = {"tasks": lambda: [*dict.fromkeys(task for task, _ in _tasks())]}
    return script_of(parser, shell, known, (*presets(SUPERVISED.presets),), values)
