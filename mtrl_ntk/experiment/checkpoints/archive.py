"""The checkpoints of a run: the newest few, the best, and the replay that they share.

A run's ``checkpoint`` folder holds a folder ``step-NNNNNNNNN`` for each checkpoint and one,
``replay``, of the segments that they refer to. What a checkpoint refers to is on the disk before
the checkpoint is, and stays until after it is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mtrl_ntk.experiment.checkpoints import segments as replay_segments
from mtrl_ntk.experiment.checkpoints.checkpoint import (
    MANIFEST,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
)
from mtrl_ntk.experiment.checkpoints.segments import ReplaySegments, Segment
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer

REPLAY = "replay"
"""Folder of the replay's segments, and their key in a checkpoint's metadata."""
SCORE = "score"
"""Key of what makes a checkpoint the best; None where nothing does."""
_EARLIER_SCORE = "mean_success_rate"
"""The same in earlier checkpoints."""

_NAME = re.compile(r"(step-\d+)|\.(step-\d+)\.old")
"""Of a checkpoint, and of one whose replacement was interrupted."""
_LEFTOVER = re.compile(rf"\.step-\d+\.(new|gone)|\.{REPLAY}\.gone")


class Found(NamedTuple):
    """A checkpoint and where it was found."""

    folder: Path
    checkpoint: Checkpoint


class Archive:
    """Saves the checkpoints of a run, and removes those that are neither new nor good.

    Args:
        folder: Where they are; one process only may save there at a time.
        keep: How many of the newest are kept, besides the best.
        segments: What holds the replay of the checkpoint that the run goes on from.
    """

    def __init__(self, folder: Path, keep: int, segments: Sequence[Segment] = ()) -> None:
        self.folder = folder
        self._keep = keep
        self._segments = ReplaySegments(folder / REPLAY, segments)

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, object],
        training: Mapping[str, Tensor],
        replay: MultiTaskReplayBuffer | None = None,
    ) -> Path:
        """Saves a checkpoint atomically; one of the same step is replaced.

        Args:
            step: Steps so far.
            tensors: The network's tensors by name.
            metadata: Anything that JSON can hold.
            training: Tensors that only further training needs, by name.
            replay: The transitions, if there are any; of them only what is new is written.

        Returns:
            The checkpoint's folder.

        Raises:
            OSError: If writing fails; the earlier checkpoints stay loadable.
        """
        folder = self.folder / f"step-{step:09d}"
        try:
            if replay is not None:
                segments = replay_segments.as_json(self._segments.save(replay))
                metadata = {**metadata, REPLAY: segments}
            save_checkpoint(folder, tensors, metadata, training)
        except OSError:
            self._remove_unused_segments(checkpoints(self.folder))
            raise
        self._tidy()
        return folder

    def remove_after(self, step: int) -> list[Path]:
        """Removes the checkpoints of later steps; returns what they were."""
        later = [path for path in checkpoints(self.folder) if _step(path) > step]
        _remove(later)
        return later

    def drop_replay(self) -> None:
        """Removes the transitions of all checkpoints, which stay whole but for that."""
        _remove([self.folder / REPLAY])
        self._remove_leftovers()

    def _tidy(self) -> None:
        metadata = {path: _metadata(path) for path in checkpoints(self.folder)}
        readable = [path for path, values in metadata.items() if values is not None]
        kept = {*readable[-self._keep :], *filter(None, [_best(metadata)])}
        _remove(path for path in metadata if path not in kept)
        self._remove_leftovers()
        self._remove_unused_segments(kept)

    def _remove_leftovers(self) -> None:
        for path in self.folder.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def _remove_unused_segments(self, kept: Iterable[Path]) -> None:
        used = [s for path in kept for s in segments_of(path, _metadata(path) or {})]
        self._segments.remove_others(used)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first; whether they are whole is not asked."""
    found = {
        folder / (match[1] or match[2])
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    }
    return sorted(found, key=_step)


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the best evaluation; None where there was none."""
    return _best({path: _metadata(path) for path in checkpoints(folder)})


def load_newest(folder: Path, *, replay: bool = False) -> Found:
    """Loads the newest checkpoint that is whole, and warns of newer ones that are not.

    Args:
        folder: A folder of checkpoints, or a single one.
        replay: Whether its replay has to be whole too, or dropped as a whole.

    Raises:
        CheckpointError: If there is none.
    """
    if (folder / MANIFEST).exists() or not (paths := checkpoints(folder)):
        return _load(folder, replay=replay)
    problems: list[str] = []
    for path in reversed(paths):
        try:
            found = _load(path, replay=replay)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem}; {path.name} is used instead", stacklevel=2)
        return found
    raise CheckpointError(f"no checkpoint in {folder} can be loaded: {'; '.join(problems)}")


def segments_of(folder: Path, metadata: Mapping[str, Any]) -> list[Segment]:
    """The segments of the replay that belong to a checkpoint; none if it cannot be resumed.

    Raises:
        CheckpointError: If the list of them is damaged.
    """
    try:
        return replay_segments.from_json(metadata.get(REPLAY, []))
    except CheckpointError as error:
        raise CheckpointError(f"{folder} is damaged: {error}") from error


def replay_folder(folder: Path) -> Path:
    """Where the segments of a checkpoint's replay are."""
    return folder.parent / REPLAY


def is_replay_dropped(folder: Path, metadata: Mapping[str, Any]) -> bool:
    """Whether the transitions of a checkpoint were removed at the end of its run."""
    return bool(segments_of(folder, metadata)) and not replay_folder(folder).is_dir()


def _load(folder: Path, *, replay: bool) -> Found:
    checkpoint = load_checkpoint(folder)
    if replay and not is_replay_dropped(folder, checkpoint.metadata):
        segments = segments_of(folder, checkpoint.metadata)
        replay_segments.verify(replay_folder(folder), segments)
    return Found(folder, checkpoint)


def _metadata(path: Path) -> dict[str, Any] | None:
    try:
        return read_metadata(path)
    except CheckpointError:
        return None


def _best(metadata: Mapping[Path, Mapping[str, Any] | None]) -> Path | None:
    """Of equally good ones the newest."""
    scored = [
        (score, _step(path), path)
        for path, values in metadata.items()
        if values is not None
        and isinstance(score := values.get(SCORE, values.get(_EARLIER_SCORE)), float | int)
    ]
    return max(scored)[2] if scored else None


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _remove(paths: Iterable[Path]) -> None:
    """Removes folders; one that is half removed is none of its name."""
    for path in paths:
        gone = path.with_name(f".{path.name}.gone")
        with contextlib.suppress(OSError):
            os.replace(path, gone)
        shutil.rmtree(gone, ignore_errors=True)
