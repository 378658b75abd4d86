"""Files of videos: written under a hidden name, closed, counted, and renamed only then.

What bears the name of a video is whole.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mtrl_ntk.experiment.files.atomic import replacing
from mtrl_ntk.experiment.videos.opengl import RenderingError

WriteFrame = Callable[[Image.Image], None]

GIF_FRAMES_PER_SECOND = 10
GIF_WIDTH = 800


@contextlib.contextmanager
def mp4_writer(path: Path, rate: float) -> Iterator[WriteFrame]:
    """Writes frames to an H.264 file that browsers play; it appears when it is whole.

    Args:
        path: The file, replaced if there is one; its folder is made.
        rate: Frames per second.

    Raises:
        RenderingError: If encoding fails, as on a full disk.
    """
    import imageio_ffmpeg

    encoder: Any = None
    count = 0

    def write(image: Image.Image) -> None:
        nonlocal encoder, count
        if encoder is None:
            encoder = imageio_ffmpeg.write_frames(
                str(unfinished),
                image.size,
                fps=rate,
                quality=None,
                codec="libx264",
                macro_block_size=2,
                ffmpeg_log_level="error",
                output_params=["-crf", "20", "-movflags", "+faststart"],
            )
            encoder.send(None)
        encoder.send(image.tobytes())
        count += 1

    with _appearing(path) as unfinished:
        try:
            yield write
        finally:
            if encoder is not None:
                encoder.close()
        # The encoder says nothing when it fails while it ends.
        if count == 0 or imageio_ffmpeg.count_frames_and_secs(str(unfinished))[0] != count:
            raise RenderingError(f"cannot write {path}: it is not whole; is the disk full?")


def write_gif(video: Path, path: Path) -> None:
    """Turns a video into an animated picture with colours of its own, small enough for a page.

    Args:
        video: The video.
        path: File of the animated picture.

    Raises:
        RenderingError: If it cannot be made.
    """
    import imageio_ffmpeg

    colours = "split[a][b];[a]palettegen[c];[b][c]paletteuse=dither=bayer:bayer_scale=5"
    scaling = f"fps={GIF_FRAMES_PER_SECOND},scale='min({GIF_WIDTH},iw)':-2:flags=lanczos"
    source = str(video.absolute())
    arguments = ["-loglevel", "error", "-y", "-i", source, "-vf", f"{scaling},{colours}"]
    with _appearing(path) as unfinished:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), *arguments, str(unfinished)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RenderingError(f"cannot write {path}: {done.stderr}")


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A name to write under; what is there takes the place of ``path`` if all went well."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            yield unfinished.absolute()  # what is before a colon would be a protocol
    except OSError as error:
        raise RenderingError(f"cannot write {path}: {error}") from error
