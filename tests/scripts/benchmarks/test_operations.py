"""The benchmark of a recorded update's operations: what it counts, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks.operations import PRODUCTS, Timed, main, summarize

CONFIG = "tasks: [reach-v3, push-v3]\nbatch_size: 4\nwidth: 8\ndepth: 1\n"


def test_operations_of_one_name_are_one_row_and_the_dearest_is_the_first() -> None:
    rows = summarize([Timed("mm", 3.0), Timed("add", 4.0), Timed("mm", 1.0), Timed("exp", 2.0)])
    assert [(row["name"], row["count"], row["microseconds"]) for row in rows] == [
        ("mm", 2, 4.0),
        ("add", 1, 4.0),
        ("exp", 1, 2.0),
    ]
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_an_update_is_measured_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, written = tmp_path / "small.yaml", tmp_path / "rows.json"
    config.write_text(CONFIG, encoding="utf-8")
    assert main(["--preset", str(config), "--rounds", "2", "--json", str(written)]) == 0
    assert "matrix products" in capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(written.read_text(encoding="utf-8"))}
    assert rows.keys() >= {"addmm", "_fused_adam_"}
    assert any(name in PRODUCTS for name in rows)


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--preset", "nowhere"]])
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
