"""Dense prediction from folders of .npy files, as MTAN and others keep NYUv2 and CityScapes.

``train`` and ``val`` hold a folder for each part, and those a file for each example, ``0.npy`` and
so on: ``image`` ``[height, width, 3]`` from 0 to 1, labels ``[height, width]`` with -1 for unknown,
``depth`` ``[height, width, 1]`` with 0 for unknown, and ``normal`` ``[height, width, 3]`` with zero
vectors for unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.settings import Settings, setting
from mtrl_ntk.supervised.datasets.augmentation import zoomed_and_flipped
from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples
from mtrl_ntk.supervised.datasets.files import given, require
from mtrl_ntk.supervised.tasks import Segmentation

_BEYOND = 0.01
"""How far images may be beyond what they should be, as after resizing."""


class Part(NamedTuple):
    """A folder of a split."""

    folder: str
    channels: int
    """Length of the last axis of its files; 0 if they have two axes only."""


@dataclass(frozen=True)
class NpyFoldersConfig(Settings):
    """Settings of a data set in that format."""

    data_dir: Path | None = setting(None, decides="nothing")
    """Folder that holds train and val."""
    augment: bool = setting(True)
    """Learn from images that are zoomed and mirrored at random, as in the paper."""


class NpyFolders(Dataset):
    """Base of data sets in that format; files are read when they are asked for."""

    source: ClassVar[str]
    """What the folder is, and where the published code gets it."""
    parts: ClassVar[Mapping[str, Part]]
    """The folders by what they hold: ``image`` and the tasks."""

    config_class = NpyFoldersConfig

    def __init__(self, config: NpyFoldersConfig) -> None:
        self._augment = config.augment
        folder = given(config.data_dir, self.name, self.source)
        self._folders = {
            split: self._open(require(folder / name, self.name, self.source))
            for split, name in (("train", "train"), ("test", "val"))
        }
        self._sizes = {split: self._count(found) for split, found in self._folders.items()}
        image = self._read("train", "image", 0)
        self.inputs = tuple(image.shape)
        for split in self.splits:
            for part in self.parts:
                self._checked(split, part, 0)

    def size(self, split: str) -> int:
        """Examples of a split."""
        return self._sizes[split]

    def batch(
        self, split: str, indices: Sequence[int], generator: torch.Generator | None = None
    ) -> Examples:
        """Some examples of a split, read from their files."""
        read = {
            part: torch.stack([self._checked(split, part, int(index)) for index in indices])
            for part in self.parts
        }
        examples = Examples(read.pop("image"), read)
        if generator is None or not self._augment:
            return examples
        return zoomed_and_flipped(examples, generator)

    def folder_of(self, split: Path, part: str) -> Path:
        """The folder of a part in a split."""
        return split / self.parts[part].folder

    def _open(self, split: Path) -> dict[str, Path]:
        return {
            part: require(self.folder_of(split, part), self.name, self.source)
            for part in self.parts
        }

    def _count(self, folders: Mapping[str, Path]) -> int:
        """Examples that all parts have."""
        counts = {folder: len([*folder.glob("*.npy")]) for folder in folders.values()}
        size = next(iter(counts.values()))
        for folder, count in counts.items():
            missing = [index for index in range(size) if not (folder / f"{index}.npy").exists()]
            if count != size or missing or not size:
                lacks = f", but no {missing[0]}.npy" if missing else ""
                raise ConfigError(
                    f"{folder} has {count} .npy files{lacks}; {self.name} needs as many in each "
                    f"folder as in image, numbered from 0: {self.source}"
                )
        return size

    def _read(self, split: str, part: str, index: int) -> Tensor:
        """A part of an example, channels first."""
        path, channels = self._folders[split][part] / f"{index}.npy", self.parts[part].channels
        try:
            with path.open("rb") as file:
                array = np.lib.format.read_array(file)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
        is_shaped = (
            array.shape[2:] == ((channels,) if channels else ()) and array.ndim >= 2 and array.size
        )
        if not is_shaped or array.dtype.kind not in "fiu":
            axes = f"[height, width, {channels}]" if channels else "[height, width]"
            raise ConfigError(
                f"{path} holds {array.dtype} {list(array.shape)}; {self.name} needs numbers {axes}"
            )
        numbers = torch.from_numpy(array.astype(np.float32))
        return numbers.movedim(-1, 0) if channels else numbers

    def _checked(self, split: str, part: str, index: int) -> Tensor:
        """The same, as large as all others, of numbers that its kind can be."""
        found = self._read(split, part, index)
        path = self._folders[split][part] / f"{index}.npy"
        if found.shape[-2:] != self.inputs[1:]:
            raise ConfigError(
                f"{path} is {list(found.shape[-2:])} pixels large; the first image is "
                f"{list(self.inputs[1:])}"
            )
        if not found.isfinite().all():
            raise ConfigError(f"{path} has numbers that are not finite")
        ends = f"{path} has numbers from {found.min():g} to {found.max():g}"
        if part == "image" and not -_BEYOND <= found.min() <= found.max() <= 1 + _BEYOND:
            raise ConfigError(f"{ends}; {self.name} needs images from 0 to 1")
        task = next((task for task in self.tasks if task.name == part), None)
        if not isinstance(task, Segmentation):
            return found
        labels = found.long()
        if not -1 <= labels.min() <= labels.max() < task.outputs or (labels != found).any():
            raise ConfigError(
                f"{ends}; {self.name} has {task.outputs} classes, whole numbers from 0, and -1 for "
                "unknown"
            )
        return labels
