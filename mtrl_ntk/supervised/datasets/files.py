"""Folders of data that users have: what is missing there, in one line."""

from __future__ import annotations

from pathlib import Path

from mtrl_ntk.errors import ConfigError


def given(data_dir: Path | None, name: str, source: str) -> Path:
    """The folder of a data set.

    Args:
        data_dir: What the user says; None if nothing.
        name: Name of the data set.
        source: What has to be there, and where it comes from.

    Raises:
        ConfigError: If there is no folder.
    """
    if data_dir is None:
        raise ConfigError(f"dataset {name} needs --data-dir, {source}")
    folder = data_dir.expanduser()
    if not folder.is_dir():
        raise ConfigError(f"data_dir {data_dir} is no folder; {name} needs {source}")
    return folder


def require(path: Path, name: str, source: str) -> Path:
    """A file or folder that has to be there.

    Raises:
        ConfigError: If it is not.
    """
    if not path.exists():
        raise ConfigError(f"{path} is missing; {name} needs {source}")
    return path
