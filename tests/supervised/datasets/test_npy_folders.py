"""NYUv2 and CityScapes from folders of .npy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.supervised.datasets.cityscapes import Cityscapes
from mtrl_ntk.supervised.datasets.npy_folders import NpyFolders, NpyFoldersConfig
from mtrl_ntk.supervised.datasets.nyuv2 import NYUv2
from tests.supervised.datasets.files_of_others import SIZE, write_npy_folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_npy_folders(tmp_path / "nyuv2", 13, "label", normals=True)


def opened(folder: Path) -> NpyFolders:
    return NYUv2(NpyFoldersConfig(data_dir=folder))


def test_examples_are_those_of_the_files(folder: Path) -> None:
    nyuv2 = opened(folder)
    assert (nyuv2.size("train"), nyuv2.size("test"), nyuv2.inputs) == (3, 2, (3, *SIZE))
    batch = nyuv2.batch("train", [2, 0])
    assert isinstance(batch.inputs, Tensor)
    assert tuple(batch.targets) == nyuv2.task_names == tuple(task.name for task in nyuv2.tasks)
    assert {name: target.dtype for name, target in batch.targets.items()} == {
        "segmentation": torch.int64,
        "depth": torch.float32,
        "normals": torch.float32,
    }
    for row, index in enumerate((2, 0)):
        parts = ((batch.inputs, "image"), (batch.targets["normals"], "normal"))
        for found, part in (*parts, (batch.targets["depth"], "depth")):
            array = np.load(folder / "train" / part / f"{index}.npy")
            np.testing.assert_allclose(found[row].movedim(0, -1), array, atol=1e-6)
        labels = np.load(folder / "train" / "label" / f"{index}.npy")
        np.testing.assert_array_equal(batch.targets["segmentation"][row], labels)
    for task in nyuv2.tasks:
        outputs = torch.zeros(2, task.outputs, *SIZE)
        assert task.losses(outputs, batch.targets[task.name]).shape == (2,)


def test_files_are_read_when_they_are_asked_for(folder: Path) -> None:
    nyuv2 = opened(folder)
    np.save(folder / "val" / "depth" / "1.npy", np.ones((*SIZE, 1)))
    assert bool((nyuv2.batch("test", [1]).targets["depth"] == 1).all())


def test_examples_to_learn_from_change_only_when_asked(folder: Path) -> None:
    plain = opened(folder).batch("train", [0, 1]).targets["depth"]
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(opened(folder).batch("train", [0, 1], generator).targets["depth"], plain)
    still = NYUv2(NpyFoldersConfig(data_dir=folder, augment=False))
    assert torch.equal(still.batch("train", [0, 1], generator).targets["depth"], plain)


@pytest.mark.parametrize("labels", ["label_7", "label"])
def test_cityscapes_has_seven_classes_and_no_normals(labels: str, tmp_path: Path) -> None:
    folder = write_npy_folders(tmp_path, 7, labels, normals=False)
    cityscapes = Cityscapes(NpyFoldersConfig(data_dir=folder))
    batch = cityscapes.batch("test", [0, 1])
    assert tuple(batch.targets) == cityscapes.task_names == ("segmentation", "depth")
    assert int(batch.targets["segmentation"].max()) == 6


def test_labels_of_more_classes_are_refused(tmp_path: Path) -> None:
    folder = write_npy_folders(tmp_path, 19, "label", normals=False)
    with pytest.raises(ConfigError, match=r"numbers from -1 to 18; cityscapes has 7 classes"):
        Cityscapes(NpyFoldersConfig(data_dir=folder))


def test_a_missing_folder_is_named(folder: Path) -> None:
    (folder / "val" / "depth").rename(folder / "val" / "depths")
    with pytest.raises(ConfigError, match=r"val/depth is missing; nyuv2 needs .*lorenmt/mtan"):
        opened(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "train" / "normal" / "1.npy").unlink()
    with pytest.raises(ConfigError, match=r"train/normal has 2 .npy files, but no 1.npy; nyuv2"):
        opened(folder)


def test_an_empty_folder_is_none(folder: Path) -> None:
    for part in (folder / "val").iterdir():
        for file in part.iterdir():
            file.unlink()
    with pytest.raises(ConfigError, match=r"val/image has 0 .npy files"):
        opened(folder)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones((*SIZE, 2), np.float32), r"float32 \[32, 48, 2\]; nyuv2 needs .*width, 1\]"),
        (np.ones(SIZE), r"float64 \[32, 48\]"),
        (np.ones((0, 48, 1)), r"float64 \[0, 48, 1\]"),
        (np.ones((16, 48, 1)), r"\[16, 48\] pixels large; the first image is \[32, 48\]"),
        (np.full((*SIZE, 1), "far"), r"<U3 \[32, 48, 1\]"),
    ],
)
def test_other_arrays_are_refused(folder: Path, array: np.ndarray, said: str) -> None:
    nyuv2 = opened(folder)
    np.save(folder / "train" / "depth" / "2.npy", array)
    with pytest.raises(ConfigError, match=rf"train/depth/2.npy .*{said}"):
        nyuv2.batch("train", [2])


def changed(value: float, like: tuple[int, ...]) -> np.ndarray:
    array = np.zeros(like)
    array[3, 4] = value
    return array


@pytest.mark.parametrize(
    ("part", "array", "said"),
    [
        ("depth", changed(np.nan, (*SIZE, 1)), "numbers that are not finite"),
        ("image", changed(np.inf, (*SIZE, 3)), "numbers that are not finite"),
        ("normal", changed(-np.inf, (*SIZE, 3)), "numbers that are not finite"),
        ("label", changed(np.nan, SIZE), "numbers that are not finite"),
        ("label", changed(2.5, SIZE), "has 13 classes, whole numbers from 0"),
        ("label", changed(255, SIZE).astype(np.uint8), "numbers from 0 to 255; nyuv2 has 13"),
        ("image", changed(255, (*SIZE, 3)).astype(np.uint8), "nyuv2 needs images from 0 to 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    folder: Path, part: str, array: np.ndarray, said: str
) -> None:
    nyuv2 = opened(folder)
    np.save(folder / "train" / part / "2.npy", array)
    with pytest.raises(ConfigError, match=rf"train/{part}/2.npy .*{said}"):
        nyuv2.batch("train", [2])


def test_an_archive_of_arrays_is_no_array(folder: Path) -> None:
    with (folder / "train" / "image" / "0.npy").open("wb") as file:
        np.savez(file, image=np.zeros((*SIZE, 3)))
    with pytest.raises(ConfigError, match=r"image/0.npy cannot be read"):
        opened(folder)


def test_files_that_are_cut_off_are_named(folder: Path) -> None:
    file = folder / "train" / "depth" / "0.npy"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ConfigError, match=r"train/depth/0.npy cannot be read"):
        opened(folder)
