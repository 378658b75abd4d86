"""Video files: whole or not there, and such as browsers play."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from mtrl_ntk.experiment.videos.encoding import mp4_writer, write_gif
from mtrl_ntk.experiment.videos.opengl import RenderingError
from tests.videos import decode

ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="videos need imageio-ffmpeg")

SIZE = (96, 64)
LEVELS = range(20, 240, 10)


def image(level: int) -> Image.Image:
    return Image.new("RGB", SIZE, (level, level, level))


def write(path: Path, rate: float = 20.0) -> None:
    with mp4_writer(path, rate) as add:
        for level in LEVELS:
            add(image(level))


def levels_of(path: Path) -> list[float]:
    """The mean of each frame."""
    means: list[float] = decode(path).frames.mean((1, 2, 3)).tolist()
    return means


def test_a_video_is_what_browsers_play(tmp_path: Path) -> None:
    write(tmp_path / "new" / "v.mp4", rate=12.5)
    stream = decode(tmp_path / "new" / "v.mp4").stream
    assert all(each in stream for each in ("h264", "yuv420p", "96x64", "12.50 fps"))
    levels = levels_of(tmp_path / "new" / "v.mp4")
    np.testing.assert_allclose(levels, list(LEVELS), atol=3)
    # The index is in front, so that playing begins before all is there.
    content = (tmp_path / "new" / "v.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_video_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"an older one")
    with mp4_writer(path, 20.0) as add:
        for level in LEVELS:
            add(image(level))
            assert path.read_bytes() == b"an older one"
    assert len(levels_of(path)) == len(LEVELS)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with mp4_writer(tmp_path / "v.mp4", 20.0) as add:
            add(image(100))
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_colon_in_a_path_names_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("seed:3 %d") / "v.mp4"
    write(path)
    assert len(levels_of(path.absolute())) == len(LEVELS)
    write_gif(path, path.with_suffix(".gif"))
    assert sorted(each.name for each in path.parent.iterdir()) == ["v.gif", "v.mp4"]


def test_no_frames_are_no_video(tmp_path: Path) -> None:
    with pytest.raises(RenderingError, match="not whole"), mp4_writer(tmp_path / "v.mp4", 20.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_lacks_frames_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "count_frames_and_secs", lambda _: (len(LEVELS) - 1, 1.0))
    with pytest.raises(RenderingError, match="not whole; is the disk full"):
        write(tmp_path / "v.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RenderingError, match="cannot write"):
        write(tmp_path / "file" / "v.mp4")


def test_a_gif_shows_the_same(tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", rate=10.0)
    write_gif(tmp_path / "v.mp4", tmp_path / "v.gif")
    with Image.open(tmp_path / "v.gif") as gif:
        assert isinstance(gif, GifImageFile)
        assert gif.size == SIZE
        # Equal frames may be one that is shown for longer.
        assert 2 < gif.n_frames <= len(LEVELS)
        levels = []
        for index in range(gif.n_frames):
            gif.seek(index)
            levels.append(float(np.asarray(gif.convert("RGB")).mean()))
    assert levels[0] == pytest.approx(LEVELS[0], abs=8)
    assert levels[-1] == pytest.approx(LEVELS[-1], abs=8)
    assert {path.name for path in tmp_path.iterdir()} == {"v.mp4", "v.gif"}


def test_a_gif_of_no_video_is_a_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"nonsense")
    with pytest.raises(RenderingError, match="cannot write"):
        write_gif(tmp_path / "v.mp4", tmp_path / "v.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
