"""Modules and files that a user names, imported; and what is wrong with them, in one line.

Imports no torch, as nothing does that a worker needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from mtrl_ntk.errors import ConfigError


def import_named(name: str, *, of_folder: bool = False) -> ModuleType:
    """Imports a module, or runs a file that ends in ``.py``.

    Args:
        name: Its name.
        of_folder: Whether a module may also lie in the present folder, where installed commands do
            not look by themselves.

    Raises:
        ConfigError: If there is none.
        BaseException: Whatever its code raises.
    """
    if name.endswith(".py"):
        return _import_file(Path(name).absolute())
    top = name.partition(".")[0]
    if importlib.util.find_spec(top) is None:
        if not (of_folder and any(Path(top + ending).exists() for ending in ("", ".py"))):
            raise ConfigError(f"there is no module of that name; a file ends in .py, as {name}.py")
        sys.path.append(str(Path.cwd()))
        importlib.invalidate_caches()
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError("there is no such file")
    name = "plugin" + re.sub(r"\W", "_", str(path))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    # Options are read from the source of what stands in `sys.modules`.
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reason(error: BaseException) -> str:
    """What is wrong, and where."""
    if isinstance(error, ConfigError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f" ({place.filename}, line {place.lineno})" if Path(place.filename).is_file() else ""
    return f"{type(error).__name__}: {error}{where}"
