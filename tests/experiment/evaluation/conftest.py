"""The agent that is evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.experiment.agents import Trained, load_trained
from tests.saved import save_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "run"
    save_run(folder)
    return folder


@pytest.fixture(scope="module")
def trained(run_dir: Path) -> Trained:
    return load_trained(run_dir)
