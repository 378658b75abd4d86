"""Faults of a soak: each comes, changes something, and is told from what nobody asked for."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from scripts.soak.faults import FAULTS, Unexpected, _damage, in_turn, train_to_the_end
from scripts.soak.training import Training


def test_each_fault_comes_as_often_as_the_others() -> None:
    names = in_turn(list(FAULTS), random.Random(0))
    drawn = [next(names) for _ in range(3 * len(FAULTS))]
    assert all(drawn.count(name) == 3 for name in FAULTS)
    assert drawn[: len(FAULTS)] != drawn[len(FAULTS) : 2 * len(FAULTS)]


def test_damage_always_changes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for seed in range(20):
        path.write_bytes(b"content")
        _damage(path, random.Random(seed))
        assert not path.exists() or path.read_bytes() != b"content"


class Script(Training):
    """A program in the place of a run."""

    def __init__(self, code: str, folder: Path) -> None:
        super().__init__(folder / "run", {}, folder)
        self._command = [sys.executable, "-S", "-E", "-c", code]


def test_an_end_that_no_fault_explains_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(Unexpected, match=r"exit code 3 after \{\}: out of luck"):
        train_to_the_end(Script("print('out of luck'); raise SystemExit(3)", tmp_path))
    train_to_the_end(Script("", tmp_path))


def test_what_lives_on_is_noticed_and_ended(tmp_path: Path) -> None:
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    code = f"import subprocess, sys; subprocess.Popen({sleeper})"
    training = Script(code, tmp_path)
    training.start()
    assert training.wait() == 0
    left = training.left_processes(patience=0.0)
    assert len(left) == 1
    training.end()
    assert not training.left_processes(patience=300.0)
