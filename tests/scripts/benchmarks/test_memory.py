"""The benchmark of memory: what it watches, what it writes, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from mtrl_ntk.experiment.config import RunConfig
from scripts.benchmarks import memory
from scripts.benchmarks.memory import main, replay_row, watch

CHILD = "block = bytearray(50_000_000); print('ready', flush=True); input()"
PARENT = f"""
import subprocess, sys
block = bytearray(100_000_000)
subprocess.run([sys.executable, "-c", {CHILD!r}])
"""


def test_sees_a_process_and_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        stdin = process.stdin
        monkeypatch.setattr(memory, "time", SimpleNamespace(sleep=lambda _: stdin.close()))
        peak = watch(psutil.Process(process.pid), process)
    assert 100e6 < peak.main < 150e6
    assert 50e6 < peak.workers < 100e6
    assert peak.num_workers == 1


def test_the_replay_of_the_standard_protocol() -> None:
    row = replay_row(RunConfig())
    assert row["bytes_per_transition"] == 336
    assert row["megabytes"] == pytest.approx(336)


@pytest.mark.slow
def test_measures_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = tmp_path / "tiny.yaml"
    preset.write_text("tasks: reach-v3\nwidth: 8\nhorizon: 5\nevaluation_episodes: 1\n")
    preset.write_text(preset.read_text() + "batch_size: 2\nreplay_capacity: 50\n")
    path = tmp_path / "bench.json"
    options = ["--steps", "8", "--workers", "0", "--preset", str(preset), "--json", str(path)]
    assert main(options) == 0
    sizes = {row["what"]: row["megabytes"] for row in json.loads(path.read_text())}
    assert list(sizes) == ["main", "workers", "replay"]
    assert sizes["main"] > 100
    assert "main" in capsys.readouterr().out
