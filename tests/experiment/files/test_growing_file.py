"""Pieces get into a file whole, in their order, and none is lost while the disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mtrl_ntk.experiment.files.growing_file import CsvFile, GrowingFile
from tests.experiment.full_disks import no_file_larger_than


def test_a_piece_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "file")
    with no_file_larger_than(10):
        for piece in (b"aaaa", b"bbbb", b"cccc", b"dd"):
            file.add(piece)
        with pytest.raises(OSError, match="File too large"):
            file.flush()
        assert file.path.read_bytes() == b"aaaabbbb"
        assert file.is_behind
        with pytest.raises(OSError, match="File too large"):
            file.flush()
    file.flush()
    assert file.path.read_bytes() == b"aaaabbbbccccdd"
    assert file.size == 14
    assert not file.is_behind


def test_a_part_that_could_not_be_cut_off_at_once_is_cut_off_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = GrowingFile(tmp_path / "file")
    file.add(b"aaaa")
    file.flush()
    with monkeypatch.context() as patch, no_file_larger_than(6):
        patch.setattr(GrowingFile, "_cut", lambda *_: None)
        file.add(b"bbbb")
        with pytest.raises(OSError, match="File too large"):
            file.flush()
        assert file.path.read_bytes() == b"aaaabb"
    file.flush()
    assert file.path.read_bytes() == b"aaaabbbb"


def test_a_folder_that_was_gone_for_a_while_is_found_again(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "disk" / "file")
    file.path.parent.mkdir()
    file.add(b"a")
    file.flush()
    os.rename(tmp_path / "disk", tmp_path / "elsewhere")
    file.add(b"b")
    with pytest.raises(OSError, match="No such file") as error:
        file.flush()
    assert error.value.errno == errno.ENOENT
    os.rename(tmp_path / "elsewhere", tmp_path / "disk")
    file.add(b"c")
    file.flush()
    assert file.path.read_bytes() == b"abc"


def test_what_somebody_else_has_cut_off_is_not_filled_with_zeros(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "file")
    file.add(b"aaaa")
    file.flush()
    os.truncate(file.path, 1)
    file.add(b"b")
    file.flush()
    assert file.path.read_bytes() == b"ab"


def test_the_header_waits_with_the_first_row(tmp_path: Path) -> None:
    file = CsvFile(tmp_path / "file")
    with no_file_larger_than(3):
        file.add_row({"step": 1, "value": 0.5})
        with pytest.raises(OSError, match="File too large"):
            file.flush()
        file.add_row({"step": 2, "value": float("nan")})
        assert file.path.read_bytes() == b""
    file.flush()
    assert file.path.read_text() == "step,value\n1,0.5\n2,\n"


def test_a_file_of_an_older_version_keeps_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("step,old\n1,2\n")
    file = CsvFile(path, path.stat().st_size, ("step", "old"))
    file.add_row({"step": 2, "new": 0.5, "old": 3})
    file.flush()
    assert path.read_text() == "step,old\n1,2\n2,3\n"
