"""CelebA from its lists and images."""

from __future__ import annotations

import gc
import shutil
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.supervised.datasets.celeba import CelebA, CelebAConfig
from tests.supervised.datasets.files_of_others import ATTRIBUTES, write_celeba


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_celeba(tmp_path)


def opened(folder: Path) -> CelebA:
    return CelebA(CelebAConfig(data_dir=folder, image_size=16))


def test_faces_are_those_of_their_split_with_their_attributes(folder: Path) -> None:
    celeba = opened(folder)
    assert [celeba.size(split) for split in celeba.splits] == [3, 1, 2]
    batch = celeba.batch("train", [2, 0])
    assert isinstance(batch.inputs, Tensor)
    assert batch.inputs.shape == (2, *celeba.inputs) == (2, 3, 16, 16)
    # Each face is a grey of its own: the fifth, and the first.
    torch.testing.assert_close(batch.inputs[:, 0, 0, 0], torch.tensor([160, 0]) / 255)
    lines = (folder / "Anno/list_attr_celeba.txt").read_text().splitlines()
    for row, line in enumerate((lines[6], lines[2])):
        values = [float(targets[row]) for targets in batch.targets.values()]
        assert values == [float(word == "1") for word in line.split()[1:]]
    assert [task.name for task in celeba.tasks] == list(batch.targets) == list(celeba.task_names)
    assert [name.lower() for name in ATTRIBUTES.split()] == list(celeba.task_names)
    for task in celeba.tasks:
        assert task.losses(torch.zeros(2, 1), batch.targets[task.name]).shape == (2,)


def test_files_may_lie_without_folders(folder: Path) -> None:
    for path in ("Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"):
        (folder / path).rename(folder / Path(path).name)
    (folder / "Img/img_align_celeba").rename(folder / "img_align_celeba")
    assert opened(folder).size("train") == 3


def test_missing_images_are_named(folder: Path) -> None:
    (folder / "Img/img_align_celeba/000003.jpg").unlink()
    with pytest.raises(
        ConfigError, match=r"img_align_celeba lacks 1 image of .*, such as 000003.jpg"
    ):
        opened(folder)


@pytest.mark.parametrize("path", ["Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"])
def test_missing_lists_are_named(folder: Path, path: str) -> None:
    (folder / path).unlink()
    with pytest.raises(ConfigError, match=rf"{path} is missing; celeba needs .*mmlab"):
        opened(folder)


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("Anno/list_attr_celeba.txt", "Young", "Old", "does not name the forty attributes"),
        ("Anno/list_attr_celeba.txt", "000002.jpg ", "000002.jpg  7 ", "line 4: no image"),
        ("Eval/list_eval_partition.txt", "000002.jpg 0", "000002.jpg 3", "lines other than"),
        ("Eval/list_eval_partition.txt", "000002.jpg 0\n", "", "lists other images"),
    ],
)
def test_other_lists_are_refused(folder: Path, path: str, old: str, new: str, said: str) -> None:
    content = (folder / path).read_text()
    assert old in content
    (folder / path).write_text(content.replace(old, new))
    with pytest.raises(ConfigError, match=f"{path}.*{said}"):
        opened(folder)


def test_none_to_choose_by_is_enough_but_none_to_measure_on_is_not(folder: Path) -> None:
    file = folder / "Eval/list_eval_partition.txt"
    file.write_text(file.read_text().replace(" 1\n", " 0\n"))
    celeba = opened(folder)
    assert celeba.size("validation") == 0
    assert celeba.fingerprint
    file.write_text(file.read_text().replace(" 2\n", " 0\n"))
    with pytest.raises(ConfigError, match="no face of the split test"):
        opened(folder)


def test_a_file_in_the_place_of_the_images_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "Img/img_align_celeba")
    (folder / "Img/img_align_celeba").write_text("images")
    with pytest.raises(ConfigError, match=r"img_align_celeba cannot be read"):
        opened(folder)


def test_threads_end_with_the_data_set(folder: Path) -> None:
    before = threading.active_count()
    celeba = opened(folder)
    for _ in range(3):
        celeba.batch("train", [0, 1, 2])
    threads = [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
    assert threads
    del celeba
    gc.collect()
    for thread in threads:
        thread.join(10)
    assert threading.active_count() == before


def test_a_broken_image_is_named(folder: Path) -> None:
    (folder / "Img/img_align_celeba/000001.jpg").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"000001.jpg cannot be read"):
        opened(folder).batch("train", [0])
