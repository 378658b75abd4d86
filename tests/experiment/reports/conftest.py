"""Runs to report on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiment.run_folders import make_config, write_methods, write_run_folder

LEVELS = {"equal": 0.5, "ntkmtl": 0.9, "pcgrad": 0.7, "STL": 0.8}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of four methods, and one of a method that was stopped before its end."""
    folder = write_methods(tmp_path_factory.mktemp("runs"), LEVELS)
    high = {250: [1.0] * 3, 500: [1.0] * 3}
    write_run_folder(folder / "stopped", make_config(method="equal", seed=9), high)
    return folder
