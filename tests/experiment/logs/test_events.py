"""Files of TensorBoard events: their names, their records, and what is cut off of them."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
    RawEventFileLoader,
)

from mtrl_ntk.experiment.logs.events import EventFile, cut_events, event_files
from tests.experiment.full_disks import no_file_larger_than
from tests.experiment.logs.logged import read_events


def test_files_sort_by_the_time_of_their_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for now in (9.0, 9.5, 1e9):  # two in one second
        monkeypatch.setattr(time, "time", lambda now=now: now)
        file = EventFile(tmp_path)
        file.flush()
        made.append(file.path)
    assert event_files(tmp_path) == made
    assert len({*made}) == 3


def test_each_kind_of_event_comes_back(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.add_scalars(7, {"a": 1.5, "infinite": math.inf, "none": math.nan})
    file.add_image(8, "picture", np.zeros((3, 5, 3), np.uint8))
    file.flush()
    events = read_events(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(7, 1.5)]
    assert events.Tags()["scalars"] == ["a", "infinite"]
    (picture,) = events.Images("picture")
    assert (picture.step, picture.width, picture.height) == (8, 5, 3)


def test_what_is_beyond_a_position_goes(tmp_path: Path) -> None:
    first, later = EventFile(tmp_path), tmp_path / "events.out.tfevents.9999999999.later"
    first.add_scalars(1, {"a": 1.0})
    first.flush()
    size = first.size
    first.add_scalars(2, {"a": 2.0})
    first.flush()
    later.touch()
    (tmp_path / "other").touch()
    cut_events(tmp_path, {first.path.name: size})
    assert event_files(tmp_path) == [first.path]
    assert first.path.stat().st_size == size
    assert (tmp_path / "other").exists()
    assert [event.step for event in read_events(tmp_path).Scalars("a")] == [1]


def test_a_full_disk_tears_no_record(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.flush()
    file.add_scalars(1, {"a": 1.0})
    with no_file_larger_than(file.size + 10), pytest.raises(OSError, match="too large"):
        file.flush()
    assert len([*RawEventFileLoader(str(file.path)).Load()]) == 1
    file.flush()
    assert [event.step for event in read_events(tmp_path).Scalars("a")] == [1]
