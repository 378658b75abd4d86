"""Dense prediction on Meta-World's scenes: what is at each pixel, how far, and how inclined."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from mtrl_ntk.experiment.logs.streams import show_line
from mtrl_ntk.experiment.videos.opengl import RenderingError, find_backend, using
from mtrl_ntk.rl.suites.metaworld.scanner import CLASSES
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD
from mtrl_ntk.settings import LARGEST_SEED, Settings, number, setting
from mtrl_ntk.supervised.datasets.augmentation import zoomed_and_flipped
from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples
from mtrl_ntk.supervised.datasets.scene_drawing import Frames, draw_scenes
from mtrl_ntk.supervised.tasks import Depth, Normals, Segmentation

_PATIENCE_S = 1.0
"""How long it is waited without a word for another process that draws."""
_FORMAT = 1
"""Changes whenever the same settings would be drawn differently."""


@dataclass(frozen=True)
class ScenesConfig(Settings):
    """Settings of the scenes."""

    data_dir: Path | None = setting(None, decides="nothing")
    """Where scenes are kept once drawn; by default mtrl_ntk/scenes in the user's cache folder."""
    scene_seed: int = number(0, at_least=0, at_most=LARGEST_SEED)
    """Seed of goals, poses and viewpoints, which are the same for all runs."""
    train_goals: int = number(24, at_least=1, at_most=METAWORLD.goals_per_task - 1)
    """Goals of each of the ten tasks of MT10 to learn from."""
    test_goals: int = number(8, at_least=1, at_most=METAWORLD.goals_per_task - 1)
    """Other goals of each task, to measure on."""
    views: int = number(2, at_least=1, limit=1000)
    """Scenes of each goal, each with its own pose of the arm and viewpoint."""
    picture_width: int = number(96, at_least=32, at_most=512)
    """Pixels."""
    picture_height: int = number(64, at_least=32, at_most=512)
    """Pixels."""
    augment: bool = setting(True)
    """Learn from scenes that are zoomed and mirrored at random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_goals + self.test_goals > METAWORLD.goals_per_task:
            raise ConfigError(
                f"train_goals is {self.train_goals} and test_goals {self.test_goals}; together "
                f"they must be at most {METAWORLD.goals_per_task}"
            )


class Scenes(Dataset):
    """Scenes of MT10, with the three tasks of NYUv2.

    They are drawn once, and kept in a folder that is named for all they depend on. No goal is in
    both splits.
    """

    name = "scenes"
    title = "scenes of Meta-World, drawn by MuJoCo"
    config_class = ScenesConfig
    task_names = ("segmentation", "depth", "normals")
    networks = ("segnet", "mtan")
    tasks = (Segmentation("segmentation", len(CLASSES)), Depth("depth", "m"), Normals("normals"))

    def __init__(self, config: ScenesConfig) -> None:
        self._augment = config.augment
        self._parts = _opened(config)
        self.inputs = (3, config.picture_height, config.picture_width)

    def size(self, split: str) -> int:
        """Scenes of a split."""
        return len(self._parts[f"{split}/goal"])

    def batch(
        self, split: str, indices: Sequence[int], generator: torch.Generator | None = None
    ) -> Examples:
        """Some scenes of a split."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        parts = {name: self._parts[f"{split}/{name}"][chosen] for name in _NEEDED}
        examples = Examples(
            parts["picture"].float() / 255,
            {
                "segmentation": parts["classes"].long(),
                "depth": parts["depths"][:, None],
                "normals": parts["normals"].float(),
            },
        )
        if generator is None or not self._augment:
            return examples
        return zoomed_and_flipped(examples, generator)


_NEEDED = ("picture", "classes", "depths", "normals")


def scenes_folder(config: ScenesConfig) -> Path:
    """Where scenes with these settings are, or will be."""
    parent = config.data_dir or _cache() / "mtrl_ntk" / "scenes"
    digest = hashlib.sha256(json.dumps(_made_of(config), sort_keys=True).encode()).hexdigest()
    return parent.expanduser() / f"seed{config.scene_seed}-{digest[:12]}"


def _cache() -> Path:
    """The user's cache folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise ConfigError("there is no home to keep scenes in; see --data-dir") from None


def _made_of(config: ScenesConfig) -> dict[str, Any]:
    """All that scenes depend on, but for the OpenGL that draws them."""
    settings = asdict(config)
    del settings["data_dir"], settings["augment"]
    versions = {package: metadata.version(package) for package in METAWORLD.packages}
    return settings | {"format": _FORMAT, "classes": list(CLASSES), "versions": versions}


def _opened(config: ScenesConfig) -> dict[str, Tensor]:
    """The scenes, drawn if they are not there; every byte is verified."""
    folder = scenes_folder(config)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not folder.exists():
                _make(config, folder)
        found = load_checkpoint(folder)
    except CheckpointError as error:
        raise ConfigError(f"{error}; remove it, and the scenes are drawn again") from None
    except OSError as error:
        raise ConfigError(f"scenes cannot be kept in {folder}: {error}; see --data-dir") from None
    if found.metadata.get("made_of") != _made_of(config):
        raise ConfigError(f"{folder} holds other scenes; remove it, and they are drawn again")
    return found.tensors


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one process at a time draw; runs of a sweep start at once."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_PATIENCE_S)
    except Timeout:
        show_line("another process is drawing these scenes; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(config: ScenesConfig, folder: Path) -> None:
    frames = Frames(
        config.train_goals,
        config.test_goals,
        config.views,
        config.picture_width,
        config.picture_height,
    )
    tasks = METAWORLD.benchmarks["MT10"]
    number_of = (config.train_goals + config.test_goals) * config.views * len(tasks)
    try:
        backend = find_backend()
    except RenderingError as error:
        raise ConfigError(
            f"MuJoCo cannot draw scenes here: {error}; or take --dataset digits, which needs no "
            "OpenGL"
        ) from None
    show_line(f"drawing {number_of} scenes, once; kept in {folder}")
    with using(backend):
        scenes = draw_scenes(tasks, frames, config.scene_seed, lambda name: show_line(f"  {name}"))
    save_checkpoint(folder, scenes, {"made_of": _made_of(config), "opengl": backend})
