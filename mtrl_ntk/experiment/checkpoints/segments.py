"""The replay on disk: files of consecutive transitions, written once and shared by checkpoints.

A replay is far larger than the rest of a checkpoint, and between two checkpoints little of it
changes. So each checkpoint writes only the transitions that came since the one before, into
segments that later checkpoints refer to. A segment is never changed. Only a last one that is still
short is written again together with what follows it, so that the number of files stays small.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, numpy as safetensors

from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError, require_memory
from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.options.values import shown
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer

_SUFFIX = ".safetensors"
_ROWS = "rows"
_LEAST_BYTES = 16 << 20
_MOST_SEGMENTS = 64
"""Of a whole replay, but for those that are only partly in use."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """A file of the transitions of all tasks from certain numbers on to others."""

    file: str
    """Name of the file."""
    size: int
    """Bytes."""
    sha256: str
    """Hash of the file."""
    first: list[int]
    """Number of each task's first transition in it."""
    last: list[int]
    """Number of each task's first transition after it."""

    @property
    def range(self) -> tuple[Numbers, Numbers]:
        """First and last as arrays ``[tasks]``."""
        return np.array(self.first, dtype=np.int64), np.array(self.last, dtype=np.int64)


class ReplaySegments:
    """Keeps a replay in a folder.

    Args:
        folder: Where the segments are; made when there are any.
        segments: Those that hold what the replay held when it was last saved there.
    """

    def __init__(self, folder: Path, segments: Sequence[Segment] = ()) -> None:
        self._folder = folder
        self._segments = list(segments)

    def save(self, replay: MultiTaskReplayBuffer) -> list[Segment]:
        """Writes what is not there yet; returns the segments that now hold the whole replay.

        Raises:
            OSError: If writing fails; what earlier checkpoints refer to stays as it is.
        """
        oldest, end = replay.inserted - replay.sizes, replay.inserted
        full = max(_LEAST_BYTES, replay.nbytes // _MOST_SEGMENTS)
        kept = [segment for segment in self._segments if (segment.range[1] > oldest).any()]
        if kept and (kept[-1].range[1] < oldest).any():
            # What came since does not continue it for every task.
            kept = []
        begin = kept[-1].range[1] if kept else oldest
        if (begin < end).any():
            if kept and kept[-1].size < full:
                begin = kept.pop().range[0]
            kept += self._write_all(replay, np.maximum(begin, oldest), end, full)
        self._segments = kept
        return list(kept)

    def _write_all(
        self, replay: MultiTaskReplayBuffer, first: Numbers, last: Numbers, full: int
    ) -> list[Segment]:
        """Writes transitions in pieces of limited size, so that no large copy is ever made."""
        self._folder.mkdir(parents=True, exist_ok=True)
        num_bytes = 4 * replay.row_width * int((last - first).sum())
        pieces = max(1, num_bytes // full)
        bounds = [first + (last - first) * piece // pieces for piece in range(pieces + 1)]
        written = [self._write(replay, *piece) for piece in pairwise(bounds)]
        atomic.flush_to_disk(self._folder)
        return written

    def _write(self, replay: MultiTaskReplayBuffer, first: Numbers, last: Numbers) -> Segment:
        content = safetensors.save({_ROWS: replay.numbered(first, last)})
        digest = hashlib.sha256(content).hexdigest()
        path = self._folder / f"{last.sum():012d}-{digest[:16]}{_SUFFIX}"
        atomic.write(path, content)
        return Segment(path.name, len(content), digest, first.tolist(), last.tolist())

    def remove_others(self, wanted: Iterable[Segment]) -> None:
        """Removes what no checkpoint refers to any more, as far as that is possible.

        What was written for a save that has failed stays: the next save refers to it.
        """
        names = {segment.file for segment in (*wanted, *self._segments)}
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path.name not in names:
                with contextlib.suppress(OSError):
                    path.unlink()


def as_json(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """What a manifest keeps of segments."""
    return [asdict(segment) for segment in segments]


def from_json(values: object) -> list[Segment]:
    """Reads what a manifest keeps of segments.

    Raises:
        CheckpointError: If it is something else.
    """
    try:
        segments = [_from_json(value) for value in values]  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"the list of the replay's segments is damaged: {error}") from error
    return segments


def _from_json(value: Mapping[str, Any]) -> Segment:
    segment = Segment(**value)
    if Path(segment.file).name != segment.file or not segment.file.endswith(_SUFFIX):
        raise ValueError(f"{shown(segment.file)} is no file in the folder")
    limits = (segment.first, segment.last)
    numbers = [segment.size, *segment.first, *segment.last]
    are_lists = {type(each) for each in limits} == {list} and len({*map(len, limits)}) == 1
    if not are_lists or not all(type(n) is int and 0 <= n < _MOST for n in numbers):
        raise ValueError(f"{shown(segment.file)} has no numbers for its transitions")
    return segment


_MOST = 1 << 62
"""Above any number of transitions or bytes; twice as many still fit 64 bits."""


def verify(folder: Path, segments: Iterable[Segment]) -> None:
    """Verifies every byte of some segments.

    Raises:
        CheckpointError: If one is missing or damaged.
    """
    for segment in segments:
        _read(folder, segment)


def load(folder: Path, segments: Iterable[Segment], replay: MultiTaskReplayBuffer) -> None:
    """Fills an empty replay.

    Raises:
        CheckpointError: If a segment is missing or damaged, or if they do not make up a replay.
    """
    for segment in segments:
        content = _read(folder, segment)
        try:
            replay.put(*segment.range, safetensors.load(content)[_ROWS])
        except (SafetensorError, KeyError, ValueError) as error:
            reason = f"{segment.file} does not fit: {error}"
            raise CheckpointError(f"the replay in {folder} cannot be used: {reason}") from error


def _read(folder: Path, segment: Segment) -> bytes:
    path = folder / segment.file
    try:
        size = path.stat().st_size
        require_memory(path, size)
        content = path.read_bytes() if size == segment.size else b""
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != segment.sha256:
        raise CheckpointError(f"{path} is damaged: it does not match its hash")
    return content
