"""CelebA: faces, and forty attributes that each has or has not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.settings import Settings, number, setting
from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples
from mtrl_ntk.supervised.datasets.files import given
from mtrl_ntk.supervised.tasks import Attribute

_SOURCE = (
    "the folder of Anno/list_attr_celeba.txt, Eval/list_eval_partition.txt and "
    "Img/img_align_celeba, linked from mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
)
_PARTITIONS = ("train", "validation", "test")
_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)


@dataclass(frozen=True)
class CelebAConfig(Settings):
    """Settings of CelebA."""

    data_dir: Path | None = setting(None, decides="nothing")
    """Folder that holds Anno, Eval and Img, or their files at once."""
    image_size: int = number(64, at_least=8, at_most=512)
    """Sides of the images, which are resized as in the published code."""


class CelebA(Dataset):
    """Forty tasks, one per attribute, of 202 599 faces; images are read when they are asked for."""

    name = "celeba"
    title = "faces and their attributes"
    config_class = CelebAConfig
    task_names = tuple(name.lower() for name in _ATTRIBUTES.split())
    networks = ("cnn9",)
    splits = _PARTITIONS
    tasks = tuple(Attribute(name) for name in task_names)

    def __init__(self, config: CelebAConfig) -> None:
        folder = given(config.data_dir, self.name, _SOURCE)
        attributes = _found(folder, "Anno", "list_attr_celeba.txt")
        names, self._labels = _read_attributes(attributes)
        self._images = _found(folder, "Img", "img_align_celeba")
        missing = {*names} - {*_files(self._images)}
        if missing:
            raise ConfigError(
                f"{self._images} lacks {counted(len(missing), 'image')} of {attributes}, such as "
                f"{min(missing)}"
            )
        partition = _read_partition(_found(folder, "Eval", "list_eval_partition.txt"), names)
        self._names = np.array(names)
        self._members = {
            split: np.flatnonzero(partition == index) for index, split in enumerate(_PARTITIONS)
        }
        for split in ("train", "test"):
            if not len(self._members[split]):
                raise ConfigError(
                    f"{folder} has no face of the split {split}; celeba needs {_SOURCE}"
                )
        self._size = config.image_size
        # Decoding holds no lock of Python; threads that are idle end with the data set.
        self._pool = ThreadPoolExecutor()
        self.inputs = (3, self._size, self._size)

    def size(self, split: str) -> int:
        """Faces of a split."""
        return len(self._members[split])

    def batch(
        self,
        split: str,
        indices: Sequence[int],
        generator: torch.Generator | None = None,  # noqa: ARG002 - faces are learnt as they are
    ) -> Examples:
        """Some faces of a split, read from their files."""
        members = self._members[split][np.asarray(indices, np.int64)]
        paths = [self._images / name for name in self._names[members]]
        images = torch.stack([*self._pool.map(self._image, paths)])
        labels = torch.from_numpy(self._labels[members].astype(np.float32))
        return Examples(images, dict(zip(self.task_names, labels.T, strict=True)))

    def _image(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as image:
                resized = image.convert("RGB").resize((self._size,) * 2, Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
        return torch.from_numpy(np.asarray(resized, np.float32) / 255).movedim(-1, 0)


def _found(folder: Path, inner: str, name: str) -> Path:
    """A file or folder where the download has it, or where it is unpacked without folders."""
    for path in (folder / inner / name, folder / name):
        if path.exists():
            return path
    raise ConfigError(f"{folder / inner / name} is missing; celeba needs {_SOURCE}")


def _files(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}") from None


def _read_attributes(path: Path) -> tuple[list[str], NDArray[np.bool_]]:
    """Names of images, and which attributes they have ``[images, 40]``."""
    lines = _lines(path)
    if len(lines) < 3 or lines[1].split() != _ATTRIBUTES.split():
        raise ConfigError(f"{path} does not name the forty attributes in its second line")
    rows = [line.split() for line in lines[2:]]
    values = {"1": True, "-1": False}
    for row_number, row in enumerate(rows, 3):
        if len(row) != 41 or not {*row[1:]} <= values.keys():
            raise ConfigError(f"{path}, line {row_number}: no image with forty times 1 or -1")
    return [row[0] for row in rows], np.array(
        [[values[value] for value in row[1:]] for row in rows]
    )


def _read_partition(path: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """The split of each image, by its index."""
    rows = [line.split() for line in _lines(path)]
    if any(len(row) != 2 or row[1] not in ("0", "1", "2") for row in rows):
        raise ConfigError(f"{path} has lines other than an image and 0, 1 or 2")
    splits = {name: int(split) for name, split in rows}
    if splits.keys() != {*names}:
        raise ConfigError(f"{path} lists other images than list_attr_celeba.txt")
    return np.array([splits[name] for name in names])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
