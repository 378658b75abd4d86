"""Files that grow by whole pieces, whatever the disk does in between."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mtrl_ntk.experiment.files.atomic import flush_to_disk


class GrowingFile:
    """A file to which pieces are added; a piece is in it whole or not at all.

    Pieces that cannot be written wait in memory, in their order, for the next flush. The file is
    opened for each flush only, so that one that was lost for a while is found again.

    Args:
        path: The file.
        size: Bytes that it has.

    Attributes:
        path: The file.
        size: Bytes of whole pieces in it.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path, self.size = path, size
        self._waiting: deque[bytes] = deque()
        self._is_closed = False

    @property
    def is_behind(self) -> bool:
        """Whether pieces are waiting."""
        return bool(self._waiting)

    def add(self, piece: bytes) -> None:
        """Adds a piece, which the next flush writes.

        Raises:
            ValueError: If the file was closed.
        """
        if self._is_closed:
            raise ValueError(f"{self.path} is closed")
        self._waiting.append(piece)

    def flush(self) -> None:
        """Writes what is waiting.

        Raises:
            OSError: If not all of it can be written; the rest goes on waiting.
        """
        if not self._waiting:
            return
        with self.path.open("ab", buffering=0) as file:
            self._cut(file)
            while self._waiting:
                try:
                    _write_all(file, self._waiting[0])
                except OSError:
                    # If even that fails, the next flush does it.
                    with contextlib.suppress(OSError):
                        self._cut(file)
                    raise
                self.size += len(self._waiting.popleft())

    def flush_to_disk(self) -> None:
        """Waits until all that was written would survive a power cut."""
        if self.path.exists():
            flush_to_disk(self.path)

    def close(self) -> None:
        """Takes no more pieces."""
        self._is_closed = True

    def _cut(self, file: io.FileIO) -> None:
        """Removes what was written of a piece in part; takes it that others may have cut more."""
        self.size = min(self.size, os.fstat(file.fileno()).st_size)
        file.truncate(self.size)


def _write_all(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


class CsvFile(GrowingFile):
    """A CSV file whose first row fixes the columns.

    Args:
        path: The file.
        size: Bytes that it has.
        columns: Its columns; none if it has none yet. Others are left out then: an older version,
            which did not know them, may have begun the file.
    """

    def __init__(self, path: Path, size: int = 0, columns: tuple[str, ...] = ()) -> None:
        super().__init__(path, size)
        self._columns, self._is_continued = columns, bool(columns)

    def add_row(self, row: Mapping[str, object]) -> None:
        """Adds a row, which the next flush writes; NaN becomes an empty cell.

        Raises:
            ValueError: If it has columns that the first one had not.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._columns:
            self._columns = tuple(row)
            writer.writerow(self._columns)
        unknown = row.keys() - set(self._columns)
        if unknown and not self._is_continued:
            raise ValueError(f"{self.path} has no columns {sorted(unknown)}")
        writer.writerow([_cell(row.get(column)) for column in self._columns])
        self.add(text.getvalue().encode())


def _cell(value: object) -> object:
    if not isinstance(value, float | np.floating):
        return value
    # Nine digits keep a float32 exactly.
    return "" if math.isnan(value) else f"{value:.9g}"
