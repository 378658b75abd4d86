"""Files that are there whole or not at all, for everybody whom the umask lets read them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside a file to write under; at the end what is there takes the file's place.

    If anything fails, a power cut included, the file is what it was before.

    Raises:
        OSError: If it cannot be written.
    """
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        unfinished.unlink(missing_ok=True)  # left by a process that was killed
        unfinished.touch()
        mode = unfinished.stat().st_mode
        yield unfinished
        if unfinished.stat().st_mode != mode:
            unfinished.chmod(mode)  # some libraries keep what they write to their user
        flush_to_disk(unfinished)
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def write(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8; as :func:`replacing`."""
    with replacing(path) as unfinished:
        if isinstance(content, str):
            content = content.encode(errors="backslashreplace")  # names of files may be no text
        unfinished.write_bytes(content)


def flush_to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, would survive a power cut."""
    # Windows can neither open a folder nor flush a file that is open for reading only.
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
