"""Two runs compared: differences are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mtrl_ntk.experiment.training import run as training
from mtrl_ntk.experiment.training.run import train
from scripts.soak.comparison import equal_parts
from tests.experiment.training.test_run import tiny


@pytest.mark.slow
def test_differences_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "plot_run", lambda _: [])
    train(tiny(tmp_path / "one"))
    train(tiny(tmp_path / "other", seed=2))
    shutil.copytree(tmp_path / "one", tmp_path / "same")
    assert set(equal_parts(tmp_path / "one", tmp_path / "same").values()) == {True}
    parts = equal_parts(tmp_path / "one", tmp_path / "other")
    assert {name for name, equal in parts.items() if equal} <= {"evaluation.csv"}
