"""Frames: captions that can be told apart, and panels that stay in their places."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mtrl_ntk.experiment.options.sections import VideoConfig
from mtrl_ntk.experiment.videos.frames import (
    GAP,
    MAX_MOSAIC_WIDTH,
    Caption,
    Frame,
    Mosaic,
    _texts,
    caption_height,
    captioned,
)

CAPTION = Caption("reach-v3", 0, 12, 500, 34.5, success=False, over=False)


def frame(level: int, size: int = 96, caption: Caption = CAPTION) -> Frame:
    return Frame(np.full((size, size, 3), level, np.uint8), caption)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize(
    ("success", "over", "status"),
    [
        (False, False, "running"),
        (False, True, "failed"),
        (True, True, "success"),
        (True, False, "success"),
    ],
)
def test_the_caption_says_how_the_episode_stands(success: bool, over: bool, status: str) -> None:
    assert replace(CAPTION, success=success, over=over).status == status


@pytest.mark.parametrize("size", [64, 96, 480, 1080])
def test_the_caption_hides_nothing_of_the_picture(size: int) -> None:
    image = captioned(frame(137, size))
    height = caption_height(size)
    assert image.size == (size, height + size)
    assert height % 2 == 0
    assert (pixels(image)[height:] == 137).all()
    assert pixels(image)[:height].max() > 150  # text


@pytest.mark.parametrize("size", [120, 240, 480])
@pytest.mark.parametrize(
    "change",
    [
        {"task": "push-v3"},
        {"goal": 7},
        {"step": 13},
        {"horizon": 200},
        {"episode_return": 99.0},
        {"success": True},
        {"over": True},
    ],
)
def test_everything_in_the_caption_shows(size: int, change: dict[str, object]) -> None:
    changed = replace(CAPTION, **change)  # type: ignore[arg-type]
    height = caption_height(size)
    before, after = (captioned(frame(0, size, each)) for each in (CAPTION, changed))
    assert (pixels(before)[:height] != pixels(after)[:height]).any()


@pytest.mark.parametrize("size", [80, 100, 128, 240, 480])
@pytest.mark.parametrize("task", ["reach-v3", "plate-slide-back-side-v3"])
def test_nothing_in_the_caption_lies_over_another_thing(size: int, task: str) -> None:
    full = Caption(task, 49, 500, 500, 1234.5, success=False, over=False)
    drawn = pixels(captioned(frame(0, size, full)))[: caption_height(size)].max(2) > 60
    rows = np.split(drawn, [len(drawn) // 2])
    margin = round(size / 40)
    for row in rows:
        columns = np.asarray(row.any(0))
        assert not columns[-1]
        gap = 0 if size < 128 and task != "reach-v3" and row is rows[0] else margin
        assert longest_run(~columns[columns.argmax() : size - columns[::-1].argmax()]) >= gap


def longest_run(values: np.ndarray) -> int:
    """Of true values side by side."""
    return max(map(len, "".join("x" if value else " " for value in values).split()), default=0)


def test_a_video_keeps_the_layout_of_its_captions() -> None:
    first = replace(CAPTION, step=0, episode_return=0.0)
    last = replace(CAPTION, step=500, episode_return=999.9)
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    for width in range(40, 300, 10):
        layouts = [
            [
                [re.sub(r"[0-9.]+", "", text.text) for text in row]
                for row in _texts(each, draw, width)
            ]
            for each in (first, last)
        ]
        assert layouts[0] == layouts[1]


def test_the_longest_name_leaves_room_for_the_status() -> None:
    size = 240
    long = replace(CAPTION, task="plate-slide-back-side-v3", success=True)
    text = pixels(captioned(frame(0, size, long)))[: caption_height(size) // 2].max((0, 2)) > 80
    gaps = "".join("x" if column else " " for column in text).strip().split(" " * 8)
    assert len([part for part in gaps if part.strip()]) >= 2


@pytest.mark.parametrize(
    ("num_tasks", "grid"), [(1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (10, (5, 2)), (50, (10, 5))]
)
def test_the_mosaic_is_a_wide_grid(num_tasks: int, grid: tuple[int, int]) -> None:
    mosaic = Mosaic(num_tasks, VideoConfig(video_size=480))
    for index in range(num_tasks):
        mosaic.add(index, frame(90))
    (image,) = mosaic.frames()
    panel = (image.width + GAP) // grid[0] - GAP
    assert panel == 240
    assert image.size == (
        grid[0] * (panel + GAP) - GAP,
        grid[1] * (panel + caption_height(panel) + GAP) - GAP,
    )
    assert image.width % 2 == image.height % 2 == 0


def test_the_mosaic_is_not_too_wide() -> None:
    mosaic = Mosaic(50, VideoConfig(video_size=1920))
    for index in range(50):
        mosaic.add(index, frame(0, 128))
    (image,) = mosaic.frames()
    assert image.width <= MAX_MOSAIC_WIDTH + 9 * GAP


def test_a_task_that_is_done_keeps_its_last_frame() -> None:
    mosaic = Mosaic(2, VideoConfig(video_size=192))
    for level in (50, 100, 150):
        mosaic.add(0, frame(level))
    mosaic.add(1, frame(200))
    frames = [pixels(image) for image in mosaic.frames()]
    middle = caption_height(96) + 48
    levels = [(image[middle, 48, 0], image[middle, 96 + GAP + 48, 0]) for image in frames]
    np.testing.assert_allclose(levels, [(50, 200), (100, 200), (150, 200)], atol=3)
