"""Balancing methods that come from elsewhere: a module that the user names, an installed package.

Whoever calls has the names from the user: what a file of a run names is never imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighting import Weighting
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.fields import options, suggestion
from mtrl_ntk.experiment.options.parser import Parser
from mtrl_ntk.experiment.options.values import shown
from mtrl_ntk.modules import import_named, reason

GROUP = "mtrl_ntk.methods"
"""Entry points of installed packages: the class of a method under the method's name."""


def all_methods() -> list[str]:
    """Names of the methods that there are, without an import of those of installed packages."""
    return [*dict.fromkeys([*METHODS, *sorted(entry_points(group=GROUP).names)])]


def method_class(name: str) -> type[Weighting]:
    """The class of a method, which is imported if an installed package has it.

    Raises:
        ConfigError: If there is none, or it cannot be used.
    """
    points = [*entry_points(group=GROUP, name=name)] if name not in METHODS else []
    if len(points) > 1:
        places = " and ".join(point.value for point in points)
        raise ConfigError(f"method {name} is in two installed packages, as {places}; remove one")
    for point in points:
        with _registration(f"method {name}, which is {point.value} of an installed package,"):
            METHODS[name] = point.load()
    if name not in METHODS:
        raise ConfigError(f"unknown method {shown(name)}; {suggestion(name, all_methods())}")
    return METHODS[name]


def load_plugin(plugin: Path) -> None:
    """Imports a module, or a file that ends in ``.py``, which adds methods to ``METHODS``; once.

    Raises:
        ConfigError: If it cannot be imported, or adds no method that can be used.
    """
    _load(plugin.absolute() if plugin.suffix == ".py" else plugin)


@lru_cache
def _load(plugin: Path) -> None:
    name = str(plugin)
    with _registration(f"plugin {plugin}", name):
        import_named(name)


@contextmanager
def _registration(what: str, module: str = "") -> Iterator[None]:
    """Checks what methods were added; takes back what cannot be used, and says why in one line."""
    before = dict(METHODS)
    try:
        yield
        _check_added(before, module)
    except (Exception, SystemExit) as error:
        METHODS.clear()
        METHODS.update(before)
        raise ConfigError(f"{what} cannot be used: {reason(error)}") from error


def _check_added(before: Mapping[str, type[Weighting]], module: str) -> None:
    for name, known in before.items():
        if METHODS.get(name) is not known:
            raise ConfigError(f"the name {name} is taken, by {known.__module__}")
    # Who calls from Python may have imported the module before.
    of_module = {name for name, known in before.items() if known.__module__ == module}
    added = {*METHODS} - {*before} | of_module
    if not added:
        raise ConfigError("it adds no method, as METHODS['name'] = Class does")
    for name in added:
        method: Any = METHODS[name]
        if not (isinstance(method, type) and issubclass(method, Weighting)):
            raise ConfigError(f"{name} is {method}; it must be a class that derives from Weighting")
        Parser("").add_options(options(method.config_class()))
