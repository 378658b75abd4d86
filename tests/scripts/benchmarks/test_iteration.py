"""The benchmark of an iteration's parts: how it divides time, and what it writes and refuses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from scripts.benchmarks.iteration import Account, Measured, main

CONFIG = "tasks: [reach-v3]\nbatch_size: 4\nwidth: 8\ndepth: 1\nwarmstart_steps: 4\n"


class Working:
    """Lets the clock go on in methods that call one another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = 0
        monkeypatch.setattr(time, "thread_time_ns", lambda: self.clock)

    def outer(self) -> None:
        self.clock += 2000
        self.inner()
        self.clock += 1000

    def inner(self) -> None:
        self.clock += 5000

    def step(self) -> None:
        self.clock += 4000
        self.outer()
        self.inner()


def test_what_a_method_calls_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    working, account = Working(monkeypatch), Account(first=2, last=5)
    account.watch(working, "outer", "outer")
    account.watch(working, "inner", "inner")
    step = account.iterate(working.step)
    for _ in range(5):
        step()
    with pytest.raises(Measured):
        step()
    assert [(row["part"], row["microseconds"]) for row in account.rows()] == [
        ("all", 17.0),
        ("inner", 10.0),
        ("rest", 4.0),
        ("outer", 3.0),
    ]


def test_iterations_are_measured_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, written = tmp_path / "small.yaml", tmp_path / "rows.json"
    config.write_text(CONFIG, encoding="utf-8")
    arguments = ["--preset", str(config), "--workers", "0", "--iterations", "2"]
    assert main([*arguments, "--json", str(written)]) == 0
    assert "choose actions" in capsys.readouterr().out
    rows = {row["part"]: row for row in json.loads(written.read_text(encoding="utf-8"))}
    assert rows.keys() >= {"all", "update", "replay", "rest"}
    assert rows["all"]["share"] == 1
    assert all(row["microseconds"] >= 0 for row in rows.values())


@pytest.mark.parametrize("arguments", [["--iterations", "0"], ["--preset", "nowhere"]])
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
