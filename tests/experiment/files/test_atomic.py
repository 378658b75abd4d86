"""Files appear whole or not at all, and are as readable as the umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtrl_ntk.experiment.files.atomic import replacing, write


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("before", [None, b"before"])
@pytest.mark.parametrize("failing", ["write_text", "fsync", "replace"])
def test_whatever_fails_leaves_what_was_there_and_nothing_else(
    before: bytes | None, failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.b.txt"
    if before is not None:
        path.write_bytes(before)

    def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(Path if failing == "write_text" else os, failing, fail)
    with pytest.raises(OSError, match="no"), replacing(path) as unfinished:
        unfinished.write_text("half")
    left = {found.name: found.read_bytes() for found in tmp_path.iterdir()}
    assert left == ({} if before is None else {"a.b.txt": before})


@pytest.mark.parametrize("content", ["läuf\n", b"\xff\x00"])
def test_what_was_left_by_a_killed_process_is_in_nobodys_way(
    content: str | bytes, tmp_path: Path
) -> None:
    with replacing(tmp_path / "file") as unfinished:
        pass
    unfinished.write_text("longer than what follows")
    unfinished.chmod(0o400)
    write(tmp_path / "file", content)
    expected = content if isinstance(content, bytes) else content.encode()
    assert (tmp_path / "file").read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o027])
def test_the_umask_alone_says_who_may_read(mask: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with umask(mask), replacing(path) as unfinished:
        unfinished.unlink()
        os.close(os.open(unfinished, os.O_CREAT, 0o600))  # as some libraries do
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
