"""The standard streams: whatever they are and lack, they end no work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO

from mtrl_ntk.errors import UserError


@contextmanager
def open_streams() -> Iterator[None]:
    """Lets closed standard streams lead nowhere.

    Their descriptors are taken, as that of a file which is opened later would be one of them, and
    whatever a library or another process prints would be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if is_closed(stream):
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect(nowhere))
        yield


_STANDARD_ERROR = 2
"""The last of their descriptors; the system gives a file the lowest that is free."""


def is_closed(stream: TextIO | None) -> bool:
    """Whether nothing can be written: a program without a console has no stream at all."""
    return stream is None or getattr(stream, "closed", False)


def put(stream: TextIO, text: str) -> None:
    """Writes at once; letters that the stream's encoding lacks, as of a folder, are escaped.

    Raises:
        OSError: If it cannot be written.
    """
    if is_closed(stream):
        return
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def show_line(line: str) -> None:
    """Shows a line on the standard error, which may be gone, or on the very disk that is full."""
    with suppress(OSError):
        put(sys.stderr, f"{line}\n")


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines, each at once, as long as anybody reads them: after ``| head`` nobody does.

    Raises:
        UserError: If they cannot be written, as on a full disk.
    """
    for line in lines:
        if not _is_printed(line):
            return


def _is_printed(line: str) -> bool:
    try:
        put(sys.stdout, f"{line}\n")
    except BrokenPipeError:
        return False
    except OSError as error:
        raise UserError(f"cannot write the output: {error.strerror}") from error
    return True
