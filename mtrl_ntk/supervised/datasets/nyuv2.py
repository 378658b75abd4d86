"""NYUv2: indoor scenes, as MTAN has prepared them."""

from __future__ import annotations

from types import MappingProxyType

from mtrl_ntk.supervised.datasets.npy_folders import NpyFolders, Part
from mtrl_ntk.supervised.tasks import Depth, Normals, Segmentation


class NYUv2(NpyFolders):
    """Segmentation into 13 classes, depth and normals of 795 and 654 images, 288 by 384."""

    name = "nyuv2"
    title = "indoor scenes, NYUv2 as MTAN keeps it"
    source = "MTAN's folder of train and val, linked from github.com/lorenmt/mtan"
    task_names = ("segmentation", "depth", "normals")
    networks = ("mtan", "segnet")
    tasks = (Segmentation("segmentation", 13), Depth("depth", "m"), Normals("normals"))
    parts = MappingProxyType(
        {
            "image": Part("image", 3),
            "segmentation": Part("label", 0),
            "depth": Part("depth", 1),
            "normals": Part("normal", 3),
        }
    )
