"""The checkpoints of a run: which stay, which is loaded, and that one always can be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from mtrl_ntk.experiment.checkpoints import archive, segments
from mtrl_ntk.experiment.checkpoints.archive import (
    Archive,
    best_checkpoint,
    checkpoints,
    load_newest,
    segments_of,
)
from mtrl_ntk.experiment.checkpoints.checkpoint import (
    MANIFEST,
    TRAINING,
    WEIGHTS,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from tests.experiment.replays import extend, make_replay, same

CAPACITY = 20


@dataclass
class Training:
    """A run that does nothing but fill its replay and save."""

    folder: Path
    keep: int = 2
    key: str = "score"
    replay: MultiTaskReplayBuffer = field(default_factory=lambda: make_replay(CAPACITY))

    def __post_init__(self) -> None:
        self.archive = Archive(self.folder, self.keep)

    def save(self, step: int, score: float | None = None) -> Path:
        extend(self.replay, step - int(self.replay.inserted[0]))
        weights = {"weight": torch.full((3,), float(step))}
        metadata = {"step": step, self.key: score}
        moments = {"moment": torch.full((2,), -float(step))}
        return self.archive.save(step, weights, metadata, moments, self.replay)


def loaded_step(folder: Path) -> int:
    """The step of the newest checkpoint, all of whose parts have to agree."""
    found = load_newest(folder, replay=True)
    step = int(found.checkpoint.metadata["step"])
    assert found.folder.name == f"step-{step:09d}"
    assert torch.equal(found.checkpoint.tensors["weight"], torch.full((3,), float(step)))
    assert torch.equal(found.checkpoint.training["moment"], torch.full((2,), -float(step)))
    replay, expected = make_replay(CAPACITY), make_replay(CAPACITY)
    parts = segments_of(found.folder, found.checkpoint.metadata)
    segments.load(archive.replay_folder(found.folder), parts, replay)
    extend(expected, step)
    assert same(replay, expected)
    return step


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in checkpoints(folder)]


@pytest.fixture
def run(tmp_path: Path) -> Training:
    return Training(tmp_path / "run" / "checkpoint")


def test_the_newest_few_and_the_best_are_kept(run: Training) -> None:
    scores = {10: None, 20: 0.5, 30: 0.9, 40: 0.9, 50: 0.2, 60: None, 70: 0.3}
    expected = {
        10: [10],
        20: [10, 20],
        30: [20, 30],
        40: [30, 40],
        50: [40, 50],
        60: [40, 50, 60],
        70: [40, 60, 70],
    }
    for step, score in scores.items():
        run.save(step, score)
        assert steps(run.folder) == expected[step]
        assert loaded_step(run.folder) == step
    best = best_checkpoint(run.folder)
    assert best is not None
    assert loaded_step(best) == 40
    shutil.rmtree(best)
    assert loaded_step(run.folder) == 70


def test_every_checkpoint_that_is_kept_has_its_replay_and_nothing_else_is(run: Training) -> None:
    for step in range(7, 120, 7):
        run.save(step, 1.0 if step == 14 else 0.0)
        used = set()
        for path in checkpoints(run.folder):
            assert loaded_step(path) == int(path.name.removeprefix("step-"))
            metadata = load_checkpoint(path).metadata
            used |= {part.file for part in segments_of(path, metadata)}
        assert {path.name for path in (run.folder / "replay").iterdir()} == used
    assert steps(run.folder) == [14, 112, 119]


def test_without_evaluations_there_is_no_best(run: Training) -> None:
    run.save(1)
    assert best_checkpoint(run.folder) is None
    assert best_checkpoint(run.folder / "nowhere") is None


def test_the_best_of_an_earlier_version_is_still_known(tmp_path: Path) -> None:
    run = Training(tmp_path, key="mean_success_rate")
    for step, score in ((7, 0.9), (14, 0.2), (21, 0.3)):
        run.save(step, score)
    assert best_checkpoint(run.folder) == tmp_path / "step-000000007"


def test_a_step_that_is_saved_again_is_replaced(run: Training) -> None:
    run.save(5)
    run.save(5, 0.5)
    assert steps(run.folder) == [5]
    assert load_newest(run.folder).checkpoint.metadata["score"] == 0.5


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, TRAINING])
@pytest.mark.parametrize("damage", [Path.unlink, truncate])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    run: Training, name: str, damage: Callable[[Path], None]
) -> None:
    run.save(5)
    damage(run.save(9) / name)
    with pytest.warns(UserWarning, match=r"step-000000009 .*; step-000000005 is used instead"):
        assert loaded_step(run.folder) == 5
    assert run.save(12).is_dir()
    assert loaded_step(run.folder) == 12
    assert steps(run.folder) == [5, 12]


def test_a_damaged_replay_gives_way_to_the_one_before_if_it_is_needed(run: Training) -> None:
    run.save(5)
    run.save(60)
    newest = max((run.folder / "replay").iterdir())
    newest.write_bytes(b"")
    assert load_newest(run.folder).folder.name == "step-000000060"
    with pytest.warns(UserWarning, match="does not match its hash; step-000000005 is used"):
        assert loaded_step(run.folder) == 5


def test_when_all_are_damaged_every_reason_is_given_in_one_line(run: Training) -> None:
    for folder in [run.save(5), run.save(9)]:
        truncate(folder / WEIGHTS)
    reasons = r"no checkpoint in .* can be loaded: .*9 is .*; .*5 is "
    with pytest.raises(CheckpointError, match=reasons) as error:
        load_newest(run.folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [True, False])
def test_no_checkpoint_at_all_is_one_line(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "checkpoint"
    if make:
        folder.mkdir()
    with pytest.raises(CheckpointError, match=str(folder)):
        load_newest(folder)


def test_a_single_checkpoint_can_be_named(run: Training) -> None:
    folder = run.save(5)
    run.save(9)
    assert loaded_step(folder) == 5


def test_a_folder_that_is_one_checkpoint_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", {"a": torch.zeros(1)}, {"step": 1})
    found = load_newest(tmp_path / "checkpoint")
    assert found.folder == tmp_path / "checkpoint"
    assert found.checkpoint.training == {}


def test_what_comes_later_can_be_removed(run: Training) -> None:
    run.keep = 9
    run.archive = Archive(run.folder, keep=9)
    for step in (5, 6, 7):
        run.save(step)
    assert [path.name for path in run.archive.remove_after(5)] == [
        "step-000000006",
        "step-000000007",
    ]
    assert steps(run.folder) == [5]
    assert loaded_step(run.folder) == 5


def test_other_files_in_the_folder_are_left_alone(run: Training) -> None:
    run.save(1)
    kept = [run.folder / "notes.txt", run.folder / "step-three", run.folder / "replay" / "notes"]
    for path in kept:
        path.write_text("kept")
    for step in (2, 3, 4, 5):
        run.save(step)
    assert [path.read_text() for path in kept] == ["kept"] * 3


class Killed(BaseException):
    """Stands for SIGKILL."""


class Mortal:
    """A process that dies at one given file operation, and does nothing more, not even clean up."""

    def __init__(self, patch: pytest.MonkeyPatch, operations_to_live: int) -> None:
        self.remaining = operations_to_live
        for owner, name in [
            (os, "replace"),
            (os, "fsync"),
            (os, "close"),
            (shutil, "rmtree"),
            (Path, "mkdir"),
            (Path, "write_text"),
            (Path, "write_bytes"),
            (Path, "unlink"),
            (Path, "touch"),
        ]:
            patch.setattr(owner, name, self._mortal(getattr(owner, name)))

    def _mortal(self, operation: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if self.remaining <= 0:
                raise Killed
            self.remaining -= 1
            return operation(*args, **kwargs)

        return call


def test_a_save_killed_at_any_point_leaves_the_one_before_or_its_own(tmp_path: Path) -> None:
    found: list[int] = []
    killed = True
    while killed:
        run = Training(tmp_path / str(len(found)), keep=1)
        run.save(15, 0.1)
        run.save(19, 0.2)
        with pytest.MonkeyPatch.context() as patch:
            Mortal(patch, operations_to_live=len(found))
            try:
                run.save(36, 0.3)
                killed = False
            except Killed:
                pass
        found.append(loaded_step(run.folder))
        again = Training(run.folder, keep=1)
        again.save(40, 0.4)
        assert loaded_step(run.folder) == 40
        left = {path.name for path in run.folder.iterdir()}
        assert left == {"step-000000040", "replay"}
        assert len(list((run.folder / "replay").iterdir())) == 1
    assert found == sorted(found)
    assert set(found) == {19, 36}
    assert len(found) > 20
