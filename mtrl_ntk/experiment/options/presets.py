"""Presets: the config files that come with the package, found by their names."""

from __future__ import annotations

import re
from pathlib import Path

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.experiment.options.values import convert, shown
from mtrl_ntk.version import PACKAGE_FOLDER

_FOLDER = "configs"
_ENDING = ".yaml"


def presets(kind: str = "") -> dict[str, Path]:
    """The files of the presets of a kind of run by name.

    Args:
        kind: Folder of those that are not of reinforcement learning.
    """
    inside = PACKAGE_FOLDER / _FOLDER
    # In a checkout it is a link, which not every system keeps.
    folder = inside if inside.is_dir() else PACKAGE_FOLDER.parent / _FOLDER
    return {path.stem: path for path in sorted((folder / kind).glob(f"*{_ENDING}"))}


def config_file(asked: object, kind: str = "") -> Path:
    """The file that ``--config`` asks for: a path, or the name of a preset of a kind of run.

    Of a preset and a file of the same name the preset is meant; ``./NAME`` is the file.

    Raises:
        ConfigError: If it is no path, or certainly none that there is.
    """
    path, known = convert(Path, asked, "--config"), presets(kind)
    assert isinstance(path, Path)
    if asked in known:
        return known[str(asked)]
    if not path.exists():
        if asked == path.name and not path.suffix:
            hint = suggestion(path.name, known)
            raise ConfigError(f"there is no preset, and no file, {shown(asked)}; {hint}")
        if path.suffix == _ENDING and path.stem in known:
            raise ConfigError(
                f"config file {path} does not exist; --config {path.stem} is the preset"
            )
    return path


def purpose(preset: Path) -> str:
    """What a preset is for: the first sentence of the comment that it begins with."""
    comment = re.match(r"(?:#.*\n)*", preset.read_text(encoding="utf-8"))
    assert comment is not None
    return re.split(r"[.:](?:\s|$)", " ".join(comment[0].replace("#", " ").split()))[0]
