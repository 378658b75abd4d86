"""A run that the disk cannot hold is refused before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.training.disk_space import DiskNeed, check_space
from mtrl_ntk.experiment.training.run import train
from tests.experiment.training.test_run import tiny

NEED = DiskNeed(replay=1000, checkpoint=100, checkpoints=5, logs=50)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A disk whose only entry is its free bytes."""
    free = [0]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, free[0]))
    return free


def test_no_room_for_a_checkpoint_is_an_error(tmp_path: Path, disk: list[int]) -> None:
    disk[0] = NEED.least - 1
    with pytest.raises(UserError, match=r"needs 0\.0 MB .* are free: .*--run-dir.*replay-cap"):
        check_space(NEED, tmp_path / "not" / "there")


def test_without_a_replay_none_is_spoken_of(tmp_path: Path, disk: list[int]) -> None:
    need = NEED._replace(replay=0)
    disk[0] = need.least - 1
    with pytest.raises(UserError, match=r"for a checkpoint, 0\.0 MB are free: .*another disk$"):
        check_space(need, tmp_path)


def test_no_room_for_all_is_a_warning(tmp_path: Path, disk: list[int]) -> None:
    disk[0] = NEED.least
    with pytest.warns(UserWarning, match=r"may fill the disk of .*; --keep-checkpoints 1"):
        check_space(NEED, tmp_path)
    disk[0] = NEED.most
    check_space(NEED, tmp_path)


def test_what_a_resumed_run_replaces_counts_as_room(tmp_path: Path, disk: list[int]) -> None:
    disk[0] = NEED.most - 100
    (tmp_path / "checkpoint" / "replay").mkdir(parents=True)
    (tmp_path / "checkpoint" / "replay" / "part").write_bytes(bytes(100))
    check_space(NEED, tmp_path)


def test_a_run_that_does_not_fit_leaves_nothing(tmp_path: Path, disk: list[int]) -> None:
    with pytest.raises(UserError, match=r"the run needs .* MB .*, 0\.0 MB are free"):
        train(tiny(tmp_path / "run"))
    assert disk == [0]
    assert list(tmp_path.iterdir()) == []
