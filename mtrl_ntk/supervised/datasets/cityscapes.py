"""CityScapes: streets, as MTAN has prepared them."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from mtrl_ntk.supervised.datasets.npy_folders import NpyFolders, Part
from mtrl_ntk.supervised.tasks import Depth, Segmentation


class Cityscapes(NpyFolders):
    """Segmentation into 7 classes and inverse depth of 2975 and 500 images, 128 by 256."""

    name = "cityscapes"
    title = "streets, CityScapes as MTAN keeps it"
    source = "MTAN's folder of train and val, linked from github.com/lorenmt/mtan"
    task_names = ("segmentation", "depth")
    networks = ("mtan", "segnet")
    tasks = (Segmentation("segmentation", 7), Depth("depth"))
    parts = MappingProxyType(
        {
            "image": Part("image", 3),
            "segmentation": Part("label_7", 0),
            "depth": Part("depth", 1),
        }
    )

    def folder_of(self, split: Path, part: str) -> Path:
        """The folder of a part; LibMTL calls that of the labels as NYUv2 does."""
        folder = super().folder_of(split, part)
        is_libmtl = part == "segmentation" and not folder.exists()
        return split / "label" if is_libmtl and (split / "label").exists() else folder
