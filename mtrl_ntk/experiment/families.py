"""What kinds of runs there can be: what rooms that serve all of them ask a configuration."""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.fields import Option, convert_values, options
from mtrl_ntk.experiment.options.values import convert, shown
from mtrl_ntk.experiment.options.yaml_files import read_values
from mtrl_ntk.experiment.plugins import method_class


class Configuration(Protocol):
    """Everything that a run depends on: a frozen dataclass whose leaf fields are options."""

    @property
    def method(self) -> str:
        """Balancing method."""

    @property
    def seed(self) -> int:
        """Seed of everything random."""

    @property
    def threads(self) -> int:
        """Threads of PyTorch on the CPU; 0 leaves them to the machine."""

    @property
    def device(self) -> str:
        """Where it learns: ``auto``, ``cpu`` or ``cuda``."""

    @property
    def workers(self) -> int:
        """Processes besides its own; below zero where the machine is to decide."""

    def workers_on(self, cores: int) -> int:
        """The same, on a machine with so many cores."""

    @property
    def run_dir(self) -> Path | None:
        """Folder of the run, if one was asked for."""

    @property
    def resume(self) -> Path | None:
        """What it goes on from, if from anything."""

    @property
    def group(self) -> str:
        """What runs like it are filed under."""

    @property
    def family(self) -> Family[Any]:
        """What kind of run it is of."""

    @property
    def length(self) -> int:
        """The count, of the family's unit, at which the run has reached its end."""

    @property
    def at_most(self) -> str:
        """What stands before a length that the run need not come to; nothing if it does."""

    def is_over(self, count: int, success: float | None) -> bool:
        """Whether the run has reached its end.

        Args:
            count: How far it is, in the family's unit.
            success: Mean success rate of the evaluation there, if it has such a thing.
        """

    def changes_since(self, before: Any, /) -> dict[str, str]:  # noqa: ANN401 - of the same kind
        """What follows from settings that differ from those before, by name and in words."""


C = TypeVar("C", bound=Configuration)


_MARKS = {"horizon": "train_mt10", "dataset": "train_supervised"}
"""The command of a kind of run by a setting that only its runs have."""


def command_of(settings: Mapping[Any, Any]) -> str | None:
    """The command whose runs have such settings, by name; None where they do not show it."""
    return next((command for mark, command in _MARKS.items() if mark in settings), None)


class Family(ABC, Generic[C]):
    """A kind of run: how values by name become its configurations.

    Attributes:
        command: The command that starts such runs.
        unit: The count that lengths are given in, as logs and checkpoints call it.
        length_option: The option that gives it.
        selectors: Settings that decide which others there are; the method is one.
        presets: Folder of its presets within that of all.
    """

    command: str
    unit: str
    length_option: str
    selectors: tuple[str, ...]
    presets: str = ""

    @abstractmethod
    def select(self, values: Mapping[Any, Any]) -> dict[str, str]:
        """What the selectors are, of values by name and of the defaults.

        Raises:
            ConfigError: If one is not possible.
        """

    def found(self, selected: dict[str, str]) -> dict[str, str]:
        """The same, once it is sure that what they name is there.

        Raises:
            ConfigError: If it is not.
        """
        return selected

    @abstractmethod
    def known(self, selected: Mapping[str, str]) -> list[Option]:
        """The options that there are where the selectors are so.

        Raises:
            ConfigError: If the method has one that all runs have.
        """

    @abstractmethod
    def elsewhere(self, selected: Mapping[str, str]) -> Mapping[str, str]:
        """The options that there are where the selectors are others, with what to say of them."""

    @abstractmethod
    def build(self, values: Mapping[str, object]) -> C:
        """Makes a configuration of the defaults and converted values, the selectors among them.

        Raises:
            ConfigError: A value is out of its range, or two do not fit together.
        """

    def from_dict(self, values: Mapping[Any, Any], source: str = "config") -> C:
        """Makes a configuration of the defaults and the leaf values given.

        Args:
            values: Values by leaf name, as ``to_dict`` returns them or a config file holds them.
            source: Where they come from, for errors.

        Raises:
            ConfigError: A name is unknown, or a value is not possible.
        """
        selected = self.select(values)
        known, elsewhere = self.known(selected), self.elsewhere(selected)
        return self.build({**convert_values(known, values, source, elsewhere), **selected})

    def recorded(self, values: Mapping[Any, Any], source: str) -> C:
        """The configuration of a run that is only read: its method need not be known here.

        The hyper-parameters of a method that is not are ``weighting`` as they stand, by name.

        Args:
            values: Values by leaf name.
            source: Where they come from, for errors.

        Raises:
            ConfigError: A name is unknown, or a value is not possible.
        """
        method = values.get("method", "equal")
        if not isinstance(method, str) or method in METHODS:
            return self.from_dict(values, source)
        others = {name: value for name, value in values.items() if name != "method"}
        usual = self.select(
            {"method": "equal"} | {n: values[n] for n in self.selectors if n in others}
        )
        of_all = {option.name for option in self.known(usual)} - {"method"}
        weighting = {str(name): others[name] for name in others if name not in of_all}
        for name, value in weighting.items():
            # No more than what can be shown anywhere: in a page, a picture, a terminal.
            if not all(map(_is_plain, [name, *(value if isinstance(value, list) else [value])])):
                raise ConfigError(
                    f"{source}: {shown(name)} is {shown(value)}; it must be plain text"
                )
        known = {"method": "equal"} | {n: others[n] for n in others if n in of_all}
        config: Any = self.from_dict(known, source)
        read: C = replace(config, method=method, weighting=weighting)
        return read

    def read(self, path: Path) -> C:
        """Reads a YAML file of leaf values as :meth:`recorded`; others keep their defaults.

        Raises:
            ConfigError: The file cannot be read, or does not hold a valid configuration.
        """
        return self.recorded(self.read_settings(path), str(path))

    def read_settings(self, path: Path) -> dict[Any, Any]:
        """Reads a YAML file of values by name, whatever they are.

        Raises:
            ConfigError: The file cannot be read, or is of another kind of run.
        """
        values = read_values(path)
        if (command := command_of(values)) not in (None, self.command):
            raise ConfigError(f"{path} holds settings of {command}, not of {self.command}")
        return values


def _is_plain(value: object) -> bool:
    plain = isinstance(value, bool | int | float) or value is None
    return plain or (isinstance(value, str) and bool(re.fullmatch(r"[\w .,:+/~-]{0,80}", value)))


def method_of(values: Mapping[Any, Any], default: str) -> str:
    """The balancing method that values by name ask for.

    Raises:
        ConfigError: There is no such method.
    """
    method = values.get("method", default)
    if not isinstance(method, str):
        raise ConfigError(f"unknown method {shown(method)}; it must be a name")
    try:
        method_class(method)
    except ConfigError:
        if not values.get("plugin"):
            raise
        plugins = convert(tuple[str, ...], values["plugin"], "plugin")
        assert isinstance(plugins, tuple)
        raise ConfigError(
            f"unknown method {shown(method)}; it may be of a plugin, which is imported only if the "
            f"command line says so: {shlex.join(['--plugin', *plugins])}"
        ) from None
    return method


def unique(found: Sequence[Option], method: str) -> None:
    """Checks that a method has no option that all runs have.

    Raises:
        ConfigError: If it has.
    """
    names = [option.name for option in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"method {method} has an option {twice}, as all runs have")


def options_of_others(
    kind: str, chosen: str, all_options: Mapping[str, Iterable[Option]]
) -> dict[str, str]:
    """The options that the other methods, or others of another kind, have; with what to say.

    Args:
        kind: What kind of thing has them.
        chosen: Name of the one that is meant.
        all_options: Options by the names of those that have them.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for other, found in all_options.items():
        for option in found:
            owners[option.name].append(other)
    return {
        name: f"it is an option of {' and '.join(others)}, and the {kind} is {chosen}"
        for name, others in owners.items()
    }


def options_elsewhere(method: str) -> dict[str, str]:
    """The options of the other methods, with what to say about them."""
    return options_of_others(
        "method", method, {name: options(each.config_class()) for name, each in METHODS.items()}
    )
