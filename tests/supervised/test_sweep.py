"""Sweeps of supervised runs: their folders, how far they are, and that they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.sweeps import sweep as sweeps
from mtrl_ntk.experiment.sweeps.backends.job import Job
from mtrl_ntk.experiment.sweeps.options import read_sweep
from mtrl_ntk.experiment.sweeps.runs import folder_state, plan_runs
from mtrl_ntk.experiment.sweeps.sweep import run_sweep
from mtrl_ntk.experiment.sweeps.view import SweepRow
from mtrl_ntk.supervised.sweep import SUPERVISED_SWEPT, TRAIN, mean_losses
from mtrl_ntk.supervised.training import run as training
from mtrl_ntk.supervised.training.run import train
from tests.supervised.test_command import SMALL


def argv(tmp_path: Path, *more: str) -> list[str]:
    return ["--methods=equal,ntkmtl_sr", "--seeds=1-2", f"--out={tmp_path}/out", *SMALL, *more]


def test_runs_are_planned_as_their_command_would_train_them(tmp_path: Path) -> None:
    sweep = read_sweep(argv(tmp_path, "--vary", "width=2,3"), "sweep_supervised")
    runs = plan_runs(sweep, SUPERVISED_SWEPT)
    assert len(runs) == 8
    assert runs[0].name == "equal-width=2-seed1"
    for run in runs:
        assert SUPERVISED_SWEPT.load(run.arguments, "train_supervised") == run.config
    assert {run.config.architecture.width for run in runs} == {2, 3}


def test_a_folder_says_how_far_its_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "plot_supervised", lambda _: [])
    monkeypatch.setattr(training, "draw_predictions", lambda *_: [])
    sweep = read_sweep(argv(tmp_path), "sweep_supervised")
    run = plan_runs(sweep, SUPERVISED_SWEPT)[0]
    row = SweepRow(run, Job(run.name, [], tmp_path / "log", "running"))
    assert (folder_state(run), run.step, mean_losses(run.folder)) == ("new", 0, {})
    scores = train(run.config, quiet=True)
    assert (folder_state(run), run.step) == ("finished", 1)
    row.refresh(0.0)
    losses = [of_task["loss"] for of_task in scores.values.values()]
    assert row.step == row.total == 1
    assert row.score == pytest.approx(sum(losses) / len(losses))
    longer = plan_runs(read_sweep(argv(tmp_path, "--epochs=2"), "sweep_supervised"), run.kind)[0]
    assert folder_state(longer) == "interrupted"
    with pytest.raises(ConfigError, match="width was 2, is 3"):
        plan_runs(read_sweep(argv(tmp_path, "--width=3"), "sweep_supervised"), run.kind)


def test_a_plan_is_shown_with_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = read_sweep(argv(tmp_path, "--dry-run"), "sweep_supervised")
    assert run_sweep(sweep, "again", TRAIN, SUPERVISED_SWEPT) == []
    out = capsys.readouterr().out
    assert "4 runs (4 new)" in out
    assert "worker" not in out
    assert "batch_size: 8" in out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_runs_are_trained_and_skipped_once_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_POLL_S", 0.05)
    sweep = read_sweep(["--methods=equal", f"--out={tmp_path}/out", *SMALL], "sweep_supervised")
    assert run_sweep(sweep, "again", TRAIN, SUPERVISED_SWEPT) == []
    assert "finished in" in capsys.readouterr().out
    assert run_sweep(sweep, "again", TRAIN, SUPERVISED_SWEPT) == []
    assert "1 run (1 finished)" in capsys.readouterr().out
