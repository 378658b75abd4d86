"""The replay on disk: everything is there, and little of it is written twice."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mtrl_ntk.experiment.checkpoints import segments
from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError
from mtrl_ntk.experiment.checkpoints.segments import (
    ReplaySegments,
    Segment,
    as_json,
    from_json,
    load,
    verify,
)
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from tests.experiment.replays import extend, make_replay, same

ROW = 4 * (2 * 3 + 1 + 2)
"""Bytes of a row."""


@pytest.fixture
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_LEAST_BYTES", 8 * 2 * ROW)


def loaded(folder: Path, parts: list[Segment], capacity: int) -> MultiTaskReplayBuffer:
    replay = make_replay(capacity)
    load(folder, from_json(json.loads(json.dumps(as_json(parts)))), replay)
    return replay


def written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@settings(max_examples=30)
@given(
    capacity=st.integers(1, 60),
    saves=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 3)), min_size=1, max_size=8),
)
def test_whatever_is_saved_comes_back(
    capacity: int, saves: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("replay") / "replay"
    replay, disk = make_replay(capacity), ReplaySegments(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_LEAST_BYTES", 8 * 2 * ROW)
        for count, skip in saves:
            extend(replay, count, skip=skip)
            parts = disk.save(replay)
            assert same(loaded(folder, parts, capacity), replay)
            disk.remove_others(parts)
            assert set(written(folder) if parts else {}) == {part.file for part in parts}


@pytest.mark.usefixtures("_small_segments")
def test_a_save_writes_what_is_new_and_at_most_one_short_segment_again(tmp_path: Path) -> None:
    replay, disk = make_replay(capacity=500), ReplaySegments(tmp_path)
    before: set[str] = set()
    for _ in range(40):
        extend(replay, 5)
        parts = disk.save(replay)
        names = set(written(tmp_path))
        rows = sum(
            np.subtract(*part.range[::-1]).sum() for part in parts if part.file not in before
        )
        assert rows <= 2 * (5 + 8)
        before = names
    # 200 rows per task in segments of 8 to 16, but for the last.
    assert 200 // 16 <= len(parts) <= 200 // 8 + 1


@pytest.mark.usefixtures("_small_segments")
def test_large_saves_are_cut_into_pieces(tmp_path: Path) -> None:
    replay = make_replay(capacity=1000)
    extend(replay, 500)
    parts = ReplaySegments(tmp_path).save(replay)
    assert len(parts) > 25
    assert max(part.size for part in parts) < 2 * 16 * 2 * ROW
    assert same(loaded(tmp_path, parts, 1000), replay)


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    replay, disk = make_replay(capacity=10), ReplaySegments(tmp_path)
    assert disk.save(replay) == []
    extend(replay, 3)
    parts = disk.save(replay)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert disk.save(replay) == parts
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_another_process_goes_on_with_the_segments(tmp_path: Path) -> None:
    replay = make_replay(capacity=100)
    extend(replay, 20)
    parts = ReplaySegments(tmp_path).save(replay)
    other = loaded(tmp_path, parts, 100)
    extend(other, 20)
    parts = ReplaySegments(tmp_path, parts).save(other)
    extend(replay, 20)
    assert same(loaded(tmp_path, parts, 100), replay)


@pytest.mark.usefixtures("_small_segments")
def test_a_full_disk_leaves_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay, disk = make_replay(capacity=100), ReplaySegments(tmp_path)
    extend(replay, 20)
    parts = disk.save(replay)
    kept = loaded(tmp_path, parts, 100)
    extend(replay, 50)
    flush, calls = os.fsync, iter(range(100))

    def fill(descriptor: int) -> None:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill)
        with pytest.raises(OSError, match="No space left"):
            disk.save(replay)
    assert same(loaded(tmp_path, parts, 100), kept)
    assert same(loaded(tmp_path, disk.save(replay), 100), replay)


def test_every_damage_is_noticed(tmp_path: Path) -> None:
    replay = make_replay(capacity=10)
    extend(replay, 4)
    (part,) = ReplaySegments(tmp_path).save(replay)
    verify(tmp_path, [part])
    path = tmp_path / part.file
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        )
        with pytest.raises(CheckpointError, match="does not match its hash"):
            verify(tmp_path, [part])
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="does not match its hash"):
        verify(tmp_path, [part])
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load(tmp_path, [part], make_replay(capacity=10))


def test_segments_that_are_no_replay_are_refused(tmp_path: Path) -> None:
    replay, disk = make_replay(capacity=10), ReplaySegments(tmp_path)
    extend(replay, 4)
    (part,) = disk.save(replay)
    foreign = make_replay(capacity=10, tasks=3)
    with pytest.raises(CheckpointError, match="does not fit"):
        load(tmp_path, [part, part], make_replay(capacity=10))
    with pytest.raises(CheckpointError, match="does not fit"):
        load(tmp_path, [part], foreign)
    with pytest.raises(CheckpointError, match="does not fit"):
        load(tmp_path, [replace(part, last=[10**12, 4])], make_replay(capacity=10))
    (tmp_path / part.file).write_bytes(b"x" * 100)
    digest = "e8f92b7c14ea4b4b1bbba0dc6ee11e1b1e4f1bf0b7a3a2ff8cf39d04dc2d8e4e"
    with pytest.raises(CheckpointError):
        load(tmp_path, [replace(part, sha256=digest)], make_replay(capacity=10))


GOOD = {"file": "a", "size": 1, "sha256": "b", "first": [0], "last": [1]}


@pytest.mark.parametrize(
    "values",
    [
        7,
        [7],
        {"file": "a"},
        [{**GOOD, "file": "../../secret"}],
        [{**GOOD, "file": "/etc/passwd"}],
        [{**GOOD, "first": ["x"]}],
        [{**GOOD, "first": 3}],
        [{**GOOD, "last": [2**70]}],
        [{**GOOD, "surplus": 1}],
        [{"file": "a"}],
    ],
)
def test_a_list_that_is_none_of_segments_is_one_line(values: object) -> None:
    with pytest.raises(CheckpointError, match="list of the replay's segments is damaged"):
        from_json(values)
