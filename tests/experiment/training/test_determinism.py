"""One seed is one run, to the last bit, whatever else is done or wherever it is done."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtrl_ntk.experiment.config import RunConfig, save
from mtrl_ntk.experiment.training import run as training
from mtrl_ntk.experiment.training.run import train
from tests.experiment.outcomes import assert_same, outcome
from tests.experiment.training.test_run import tiny

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("reference") / "run"
    train(config_for(run_dir))
    return run_dir


def config_for(run_dir: Path, **loop: Any) -> RunConfig:  # noqa: ANN401 - fields of many types
    config = tiny(run_dir)
    return replace(config, loop=replace(config.loop, **loop))


def learnt(run_dir: Path) -> dict[str, Any]:
    """Weights, optimisers, streams, replay and rows of training.csv."""
    return {
        name: value
        for name, value in outcome(run_dir).items()
        if name.startswith("tensor") or name == "training.csv"
    }


@pytest.mark.slow
@pytest.mark.parametrize("every", [7, 45])
def test_evaluations_change_nothing(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(training, "plot_run", lambda _: [])
    config = config_for(tmp_path / "run")
    train(replace(config, evaluation=replace(config.evaluation, evaluate_every=every)))
    assert learnt(tmp_path / "run") == learnt(reference)


@pytest.mark.slow
def test_saving_and_diagnoses_change_nothing(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "plot_run", lambda _: [])
    train(config_for(tmp_path / "run", checkpoint_every=4, keep_checkpoints=1, kernel_every=5))
    assert learnt(tmp_path / "run") == learnt(reference)


@pytest.mark.slow
def test_another_process_repeats_everything(tmp_path: Path, reference: Path) -> None:
    save(replace(config_for(tmp_path / "run"), run_dir=None), tmp_path / "config.yaml")
    program = "from mtrl_ntk.cli import train_mt10; train_mt10()"
    flags = ["--config", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "run")]
    subprocess.run(
        [sys.executable, "-c", program, *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        check=True,
        capture_output=True,
        timeout=1200,
    )
    assert_same(tmp_path / "run", reference)


@pytest.mark.slow
def test_workers_change_nothing_that_is_left(tmp_path: Path, reference: Path) -> None:
    config = config_for(tmp_path / "run")
    train(replace(config, env=replace(config.env, workers=2)))
    own, others = outcome(tmp_path / "run"), outcome(reference)
    assert {name for name in own if own[name] != others[name]} == {"metadata config"}
