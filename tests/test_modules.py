"""Modules that a user names: what is wrong with them stands in one line, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.modules import import_named, reason


def test_a_file_and_a_module_are_imported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("VALUE = 3\n")
    assert import_named(str(tmp_path / "mine.py")).VALUE == 3
    assert import_named("mtrl_ntk.modules").import_named is import_named


def test_a_reason_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("\n1 / 0\n")
    with pytest.raises(ZeroDivisionError) as caught:
        import_named(str(tmp_path / "mine.py"))
    assert (
        reason(caught.value) == f"ZeroDivisionError: division by zero ({tmp_path}/mine.py, line 2)"
    )
    assert reason(ConfigError("as it is")) == "as it is"
