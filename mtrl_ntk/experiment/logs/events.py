"""Files of TensorBoard events."""

from __future__ import annotations

import io
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tensorboard.compat.proto.event_pb2 import (  # type: ignore[import-untyped]
    Event,
    SessionLog,
)
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import (  # type: ignore[import-untyped]
    RecordWriter,
)
from torch.utils.tensorboard import summary as summaries

from mtrl_ntk.experiment.files.growing_file import GrowingFile
from mtrl_ntk.experiment.files.layout import EVENTS

_VERSION = "brain.Event:2"
"""Format of the records."""


class EventFile(GrowingFile):
    """A new file of TensorBoard events.

    It takes the place of the writer of TensorBoard's own, which writes from a thread that a full
    disk ends for good, and can tell neither what is in the file nor where a record was torn.

    Args:
        run_dir: Folder of the run.
        purge_step: Step from which on a TensorBoard that watches takes back what it has shown.
    """

    def __init__(self, run_dir: Path, purge_step: int | None = None) -> None:
        super().__init__(_new_path(run_dir))
        self._add(Event(file_version=_VERSION))
        if purge_step is not None:
            session = SessionLog(status=SessionLog.START)
            self._add(Event(step=purge_step, session_log=session))

    def add_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds numbers by tag; NaN stands for none."""
        known = {tag: value for tag, value in scalars.items() if not math.isnan(value)}
        for tag, value in known.items():
            self.add_summary(summaries.scalar(tag, value), step)

    def add_image(self, step: int, tag: str, image: npt.NDArray[np.uint8]) -> None:
        """Adds an image ``[height, width, 3]``."""
        self.add_summary(summaries.image(tag, image, dataformats="HWC"), step)

    def add_gif(self, step: int, tag: str, gif: bytes) -> None:
        """Adds an animated GIF, shown among the images."""
        width, height = Image.open(io.BytesIO(gif)).size
        # Encoded already, which PyTorch's functions for images and videos do not take.
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=gif)
        self.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def add_layout(self, layout: Mapping[str, object]) -> None:
        """Groups charts on the page "Custom Scalars"."""
        self.add_summary(summaries.custom_scalars(layout), 0)

    def add_summary(self, summary: Summary, step: int) -> None:
        """Adds any summary."""
        self._add(Event(summary=summary, step=step))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self.add(record.getvalue())


def event_files(run_dir: Path) -> list[Path]:
    """The files of events in a run's folder, by name."""
    return sorted(run_dir.glob(f"{EVENTS}*"))


def cut_events(run_dir: Path, sizes: Mapping[str, int]) -> None:
    """Removes what a run's folder has of events beyond certain sizes of the files, by name."""
    for path in event_files(run_dir):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])


def _new_path(run_dir: Path) -> Path:
    """A name that TensorBoard sorts by time."""

    def names() -> Iterator[str]:
        start = f"{EVENTS}{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        return (f"{start}.{number}" for number in count())

    return next(path for name in names() if not (path := run_dir / name).exists())
