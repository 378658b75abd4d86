"""Scenes: drawn once, kept, verified, split by goal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.checkpoint import load_checkpoint
from mtrl_ntk.experiment.videos.opengl import RenderingError, find_backend, using
from mtrl_ntk.rl.suites.metaworld.scanner import CLASSES
from mtrl_ntk.supervised.datasets import scenes as module
from mtrl_ntk.supervised.datasets.scene_drawing import Frames, draw_scenes
from mtrl_ntk.supervised.datasets.scenes import Scenes, ScenesConfig, scenes_folder

FRAMES = Frames(train_goals=1, test_goals=1, views=2, width=48, height=32)
CONFIG = ScenesConfig(train_goals=1, test_goals=1, views=2, picture_width=48, picture_height=32)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Tensor]:
    with using(find_backend()):
        return draw_scenes(("reach-v3", "drawer-open-v3"), FRAMES, 0, lambda _: None)


@pytest.fixture
def config(
    drawn: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ScenesConfig:
    """Settings whose scenes are drawn at once."""
    monkeypatch.setattr(module, "find_backend", lambda: "")
    monkeypatch.setattr(module, "draw_scenes", lambda *_: drawn)
    return replace(CONFIG, data_dir=tmp_path)


def test_no_goal_is_in_both_splits(drawn: dict[str, Tensor]) -> None:
    def goals(split: str) -> set[tuple[int, int]]:
        pairs = zip(drawn[f"{split}/task"], drawn[f"{split}/goal"], strict=True)
        return {(int(task), int(goal)) for task, goal in pairs}

    assert goals("train") == {(0, 0), (1, 0)}
    assert goals("test") == {(0, 1), (1, 1)}


def test_scenes_differ_and_are_those_of_their_seed(drawn: dict[str, Tensor]) -> None:
    pictures = torch.cat([drawn["train/picture"], drawn["test/picture"]])
    assert len({picture.numpy().tobytes() for picture in pictures}) == len(pictures) == 8
    with using(find_backend()):
        again = draw_scenes(("reach-v3",), FRAMES, 0, lambda _: None)
        other = draw_scenes(("reach-v3",), FRAMES._replace(views=1), 1, lambda _: None)
    for name, part in again.items():
        assert torch.equal(part, drawn[name][: len(part)]), name
    assert not torch.equal(other["train/depths"][0], again["train/depths"][0])


def test_batches_are_what_the_tasks_learn_by(config: ScenesConfig) -> None:
    scenes = Scenes(config)
    assert (scenes.size("train"), scenes.size("test")) == (4, 4)
    batch = scenes.batch("train", [3, 0, 3])
    assert isinstance(batch.inputs, Tensor)
    assert batch.inputs.shape == (3, *scenes.inputs)
    assert 0 <= float(batch.inputs.min()) < float(batch.inputs.max()) <= 1
    assert tuple(batch.targets) == scenes.task_names == tuple(task.name for task in scenes.tasks)
    for task in scenes.tasks:
        outputs = torch.zeros(3, task.outputs, *scenes.inputs[1:])
        assert task.losses(outputs, batch.targets[task.name]).shape == (3,)
    assert int(batch.targets["segmentation"].max()) < len(CLASSES)
    known = batch.targets["segmentation"] >= 0
    assert torch.equal(known, batch.targets["depth"][:, 0] > 0)


def test_scenes_are_changed_only_when_asked(config: ScenesConfig) -> None:
    def images(config: ScenesConfig, generator: torch.Generator | None = None) -> Tensor:
        inputs = Scenes(config).batch("train", range(4), generator).inputs
        assert isinstance(inputs, Tensor)
        return inputs

    plain, random = images(config), torch.Generator()
    assert not torch.equal(images(config, random), plain)
    assert torch.equal(images(replace(config, augment=False), random), plain)


def test_scenes_are_drawn_once_and_announced(
    config: ScenesConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Scenes(config)
    folder = scenes_folder(config)
    assert f"drawing 40 scenes, once; kept in {folder}" in capsys.readouterr()[1]
    kept = load_checkpoint(folder).metadata["made_of"]
    assert kept["scene_seed"] == 0
    assert set(kept["versions"]) == {"metaworld", "mujoco"}
    monkeypatch.delattr(module, "draw_scenes")
    Scenes(config)
    assert not capsys.readouterr()[1]


def test_who_comes_second_waits_and_says_so(
    config: ScenesConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    is_waiting = Event()

    def show_line(line: str) -> None:
        lines.append(line)
        if "waiting" in line:
            is_waiting.set()

    monkeypatch.setattr(module, "show_line", show_line)
    opened: list[Scenes] = []
    second = Thread(target=lambda: opened.append(Scenes(config)))
    with FileLock(scenes_folder(config).with_suffix(".lock")):
        second.start()
        assert is_waiting.wait(60)
        assert not opened
    second.join()
    assert opened
    assert lines[0] == "another process is drawing these scenes; waiting for it"


def test_other_settings_are_other_scenes(config: ScenesConfig) -> None:
    assert scenes_folder(replace(config, scene_seed=1)) != scenes_folder(config)
    assert scenes_folder(replace(config, views=3)) != scenes_folder(config)
    assert scenes_folder(replace(config, augment=False)) == scenes_folder(config)


def test_by_default_they_are_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert scenes_folder(CONFIG).parent == Path("/somewhere/mtrl_ntk/scenes")


def test_without_a_home_a_folder_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigError, match="no home to keep scenes in; see --data-dir"):
        scenes_folder(CONFIG)


def test_damage_is_one_line_that_says_what_to_do(config: ScenesConfig) -> None:
    Scenes(config)
    file = scenes_folder(config) / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"damaged.*; remove it, and the scenes are drawn again"):
        Scenes(config)


def test_what_cannot_be_kept_is_one_line(config: ScenesConfig, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=r"scenes cannot be kept in .*; see --data-dir"):
        Scenes(replace(config, data_dir=file))


def test_without_opengl_digits_are_named(
    config: ScenesConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise RenderingError("there is no OpenGL to draw with")

    monkeypatch.setattr(module, "find_backend", none)
    with pytest.raises(ConfigError, match="no OpenGL to draw with; or take --dataset digits"):
        Scenes(config)
    assert not scenes_folder(config).exists()


def test_goals_that_there_are_not_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train_goals is 45 and test_goals 8.* at most 50"):
        ScenesConfig(train_goals=45)
