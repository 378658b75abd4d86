"""Trained policies that come with the package, found by their names.

Each is a folder: a checkpoint of the policy alone, the command that has trained it, and its
evaluation on unseen goals.
"""

from __future__ import annotations

from pathlib import Path

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.experiment.options.values import shown
from mtrl_ntk.version import PACKAGE_FOLDER

PREFIX = "pretrained:"
"""What stands before such a name where a path could stand."""
COMMAND = "command.txt"
"""File of the command that has trained a policy."""

_FOLDER = PACKAGE_FOLDER / "pretrained"


def pretrained() -> dict[str, Path]:
    """The folders of the policies by name."""
    return {path.name: path for path in sorted(_FOLDER.iterdir()) if path.is_dir()}


def is_pretrained(folder: Path) -> bool:
    """Whether a folder is that of a policy that came with the package."""
    return folder.parent == _FOLDER


def pretrained_folder(path: Path) -> Path:
    """The folder that a path means: itself, but for a name with the prefix.

    Raises:
        UserError: If there is no policy of that name.
    """
    if not str(path).startswith(PREFIX):
        return path
    name, known = str(path).removeprefix(PREFIX), pretrained()
    if name not in known:
        raise UserError(f"there is no pretrained policy {shown(name)}; {suggestion(name, known)}")
    return known[name]
