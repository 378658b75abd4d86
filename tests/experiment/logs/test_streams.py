"""Lines reach whatever stream there is, and nobody's absence ends the work."""

from __future__ import annotations

import io
import sys

import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.logs.streams import is_closed, print_lines, put, show_line


class Refusing(io.StringIO):
    """A stream that takes so many writes, and then none."""

    def __init__(self, error: OSError, writes: int = 0) -> None:
        super().__init__()
        self.error, self.writes = error, writes

    def write(self, text: str) -> int:
        self.writes -= 1
        if self.writes < 0:
            raise self.error
        return super().write(text)


def test_letters_that_an_encoding_lacks_are_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    put(stream, "Läufe\n")
    assert raw.getvalue() == b"L\\xe4ufe\n"


def test_what_is_closed_takes_nothing() -> None:
    stream = io.StringIO()
    assert not is_closed(stream)
    stream.close()
    for closed in (stream, None):
        assert is_closed(closed)
    put(stream, "text")


def test_lines_end_with_their_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Refusing(BrokenPipeError(), writes=2)
    monkeypatch.setattr(sys, "stdout", stream)
    lines = iter("abcd")
    print_lines(lines)
    assert stream.getvalue() == "a\nb\n"
    assert [*lines] == ["d"]


def test_a_full_disk_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(sys, "stdout", Refusing(full))
    with pytest.raises(UserError, match="cannot write the output: No space left"):
        print_lines(["a"])
    monkeypatch.setattr(sys, "stderr", Refusing(full))
    show_line("a line that nobody can be told")
