"""Frames of videos: a picture, what stands above it, and many of them side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mtrl_ntk.experiment.options.sections import VideoConfig
from mtrl_ntk.rl.suites.suite import without_version

Pixels = NDArray[np.uint8]
"""``[height, width, 3]``."""

MAX_MOSAIC_WIDTH = 2560
GAP = 4
"""Pixels between the panels of a mosaic."""

_BACKGROUND, _INK, _FAINT = "#181818", "#f2f2f2", "#a8a8a8"
_STATUS_INKS = {"success": "#5fd38d", "failed": "#ff8a70", "running": _FAINT, "over": _FAINT}


@dataclass(frozen=True)
class Caption:
    """What stands above a picture."""

    task: str
    goal: int
    step: int
    horizon: int
    episode_return: float
    success: bool | None
    """None where nothing counts as success."""
    over: bool

    @property
    def status(self) -> str:
        """How the episode stands."""
        if self.success:
            return "success"
        if not self.over:
            return "running"
        return "failed" if self.success is False else "over"


@dataclass(frozen=True)
class Frame:
    """A picture and what stands above it."""

    picture: Pixels
    caption: Caption


def captioned(frame: Frame, size: int | None = None) -> Image.Image:
    """Draws the caption above the picture.

    Args:
        frame: The frame.
        size: Width and height of the picture; by default its own.
    """
    picture = Image.fromarray(np.ascontiguousarray(frame.picture))
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    width, line = picture.width, _line_height(picture.width)
    image = Image.new("RGB", (width, caption_height(width) + picture.height), _BACKGROUND)
    image.paste(picture, (0, caption_height(width)))
    draw, margin = ImageDraw.Draw(image), line / 3
    draw.font = ImageFont.load_default(size=0.8 * line)
    for row, texts in enumerate(_texts(frame.caption, draw, width - 3 * margin)):
        height = margin / 2 + (row + 0.5) * line
        for text, place, anchor in zip(texts, (margin, width - margin), ("lm", "rm"), strict=True):
            draw.text((place, height), text.text, text.ink, anchor=anchor)
    return image


class _Text(NamedTuple):
    """A piece of a caption."""

    text: str
    ink: str
    widest: str
    """The longest that it grows to, so that a video keeps one layout from its first frame on."""


def _texts(caption: Caption, draw: ImageDraw.ImageDraw, width: float) -> list[tuple[_Text, _Text]]:
    """What stands at the left and at the right of each row: as much as fits side by side."""
    ink = _STATUS_INKS[caption.status]
    short, nothing = without_version(caption.task), _Text("", _FAINT, "")
    status = _Text(caption.status, ink, max(_STATUS_INKS, key=len))
    names = [_Text(name, _INK, name) for name in (caption.task, short)]
    # The colour alone says how the episode stands where there is no room for the word.
    heads = [*((name, status) for name in names), (_Text(short, ink, short), nothing)]

    def steps(before: str) -> _Text:
        count = f"{before}{caption.step}/{caption.horizon}"
        return _Text(count, _FAINT, f"{before}{caption.horizon}/{caption.horizon}")

    def total(before: str) -> _Text:
        value = f"{caption.episode_return:.1f}"
        return _Text(before + value, _FAINT, before + max(value, "0000.0", key=len))

    counts = [
        (steps(f"goal {caption.goal + 1} · step "), total("return ")),
        (steps("step "), total("return ")),
        (steps("step "), total("")),
        (steps(""), total("")),
        (steps(""), nothing),
    ]
    return [_first_that_fits(rows, draw, width) for rows in (heads, counts)]


def _first_that_fits(
    rows: Sequence[tuple[_Text, _Text]], draw: ImageDraw.ImageDraw, width: float
) -> tuple[_Text, _Text]:
    lengths = (sum(draw.textlength(text.widest) for text in row) for row in rows)
    return next(
        (row for row, length in zip(rows, lengths, strict=True) if length <= width), rows[-1]
    )


def _line_height(width: int) -> int:
    return max(round(width / 19), 9)


def caption_height(width: int) -> int:
    """Height of the caption above a picture; even, as H.264 needs it."""
    return even(round(2.5 * _line_height(width)))


class Mosaic:
    """Puts the frames of all tasks side by side; a task that is done keeps its last one.

    Frames are kept as JPEG, since those of a long video would not fit into memory.

    Args:
        num_tasks: Number of panels.
        config: What the videos show.
    """

    def __init__(self, num_tasks: int, config: VideoConfig) -> None:
        self._columns = math.ceil(num_tasks / max(round(math.sqrt(num_tasks / 2)), 1))
        rows = math.ceil(num_tasks / self._columns)
        self._panel = even(min(config.video_size // 2, MAX_MOSAIC_WIDTH // self._columns))
        self._pitch = self._panel + GAP, self._panel + caption_height(self._panel) + GAP
        self._size = self._columns * self._pitch[0] - GAP, rows * self._pitch[1] - GAP
        self._reels: list[list[bytes]] = [[] for _ in range(num_tasks)]

    def add(self, index: int, frame: Frame) -> None:
        """Adds a frame to a task's panel."""
        buffer = BytesIO()
        captioned(frame, self._panel).save(buffer, "JPEG", quality=95)
        self._reels[index].append(buffer.getvalue())

    def frames(self) -> Iterator[Image.Image]:
        """The whole pictures, one after the other."""
        for time in range(max(map(len, self._reels))):
            image = Image.new("RGB", self._size, _BACKGROUND)
            for index, reel in enumerate(self._reels):
                row, column = divmod(index, self._columns)
                panel = Image.open(BytesIO(reel[min(time, len(reel) - 1)]))
                image.paste(panel, (column * self._pitch[0], row * self._pitch[1]))
            yield image


def even(number: int) -> int:
    """The number, or the one below: H.264 takes only even widths and heights."""
    return number - number % 2
