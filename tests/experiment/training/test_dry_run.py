"""What a run would be is shown in full, is a config file, and leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from mtrl_ntk.cli import train_mt10
from mtrl_ntk.experiment.config import from_dict, to_dict
from mtrl_ntk.experiment.training import costs as rehearsal, dry_run
from tests.experiment.costs import COSTS, SETTINGS


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rehearsal, "_TIMED_S", 0.0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def dry_train(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    flags = [
        f"--{name.replace('_', '-')}={','.join(value) if isinstance(value, list) else value}"
        for name, value in SETTINGS.items()
    ]
    monkeypatch.setattr(sys, "argv", ["train_mt10", *flags, "--dry-run", *argv])
    try:
        train_mt10()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_output_is_a_config_file_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dry_run, "rehearse", lambda *_: COSTS)
    assert dry_train(monkeypatch) == 0
    output = capsys.readouterr().out
    assert to_dict(from_dict(yaml.safe_load(output))) == to_dict(from_dict(SETTINGS))
    lines = output.splitlines()
    assert lines[0] == "# chosen"
    assert "tasks: [reach-v3]  # default: []" in lines
    assert lines.index("width: 16  # default: 400") < lines.index("# defaults")
    assert lines.index("# defaults") < lines.index("gamma: 0.99")
    assert any(line.startswith("# run folder: runs/mt1/equal-seed1-") for line in lines)
    assert any(line.startswith("#   evaluation_episodes: 1") for line in lines)
    for what in ("time: about 1 h 00 min", "memory: about 1.50 GB", "disk: at most about 1.00 GB"):
        assert sum(line.startswith(f"#   {what}") for line in lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "training.csv").write_text("vector_steps\n")
    assert dry_train(monkeypatch, f"--run-dir={tmp_path}") == 2
    assert "already holds a run" in capsys.readouterr().err
