"""What a run would be is shown in full, is a config file, and leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from mtrl_ntk.cli import train_mt10
from mtrl_ntk.experiment.config import from_dict, to_dict
from mtrl_ntk.experiment.training import costs as rehearsal, dry_run
from mtrl_ntk.experiment.training.costs import rehearse, seconds_each, steps_seconds
from mtrl_ntk.experiment.training.eta import evaluation_seconds
from tests.experiment.costs import COSTS

SETTINGS = {
    "method": "equal",
    "tasks": ["reach-v3"],
    "horizon": 20,
    "batch_size": 8,
    "width": 16,
    "depth": 1,
    "total_steps": 1_000,
    "warmstart_steps": 100,
    "replay_capacity": 500,
    "evaluate_every": 250,
    "evaluation_episodes": 1,
    "workers": 0,
    "threads": 1,
    "device": "cpu",
    "keep_checkpoints": 2,
}


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
    assert any(line.startswith("# run folder: runs/mt10/equal-seed1-") for line in lines)
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


def test_costs_are_those_of_the_whole_run() -> None:
    config = from_dict(SETTINGS)
    costs = rehearse(config)
    steps = steps_seconds(config, 0, costs.random_step_s, costs.step_s)
    assert costs.total_s == pytest.approx(steps + costs.evaluations_s)
    replay = 4 * 500 * (2 * 39 + 4 + 2)
    assert costs.replay == replay
    assert costs.disk > replay + costs.learner
    assert costs.num_workers == costs.workers == 0


@pytest.mark.parametrize(("done", "expected"), [(0, 100 * 2 + 900 * 3), (40, 2820), (750, 750)])
def test_a_run_that_goes_on_takes_what_is_left(done: int, expected: float) -> None:
    assert steps_seconds(from_dict(SETTINGS), done, 2.0, 3.0) == expected


def test_what_is_on_a_gpu_takes_no_other_memory() -> None:
    assert COSTS.memory == 15 * 10**8
    assert replace(COSTS, on_gpu=True).memory == 4 * 10**8
    (line,) = [each for each in dry_run.estimate(COSTS, Path()) if "memory" in each]
    assert "GPU" not in line


def test_evaluations_that_are_over_cost_nothing() -> None:
    config = from_dict(SETTINGS)
    assert evaluation_seconds(config, 2, 0.5) == 4 * 2 * 20 * 0.5
    assert evaluation_seconds(config, 2, 0.5, done=750) == 2 * 20 * 0.5


def test_a_step_is_repeated_until_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    times = iter([0.0, 0.0, 1.5, 3.0])  # the start, then before each call
    monkeypatch.setattr("mtrl_ntk.experiment.training.costs.time.perf_counter", lambda: next(times))
    assert seconds_each(lambda: calls.append(1), at_least=2.0) == 1.5
    assert len(calls) == rehearsal._FIRST_STEPS + 2
