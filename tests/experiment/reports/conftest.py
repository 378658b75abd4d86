"""Runs to report on."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mtrl_ntk.experiment.reports import report
from tests.experiment.run_folders import make_config, write_methods, write_run_folder

LEVELS = {"equal": 0.5, "ntkmtl": 0.9, "pcgrad": 0.7, "STL": 0.8}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without the time that pictures take, for tests that look at none."""

    def touch(_: Figure, path: Path, *, palette: bool = True) -> None:  # noqa: ARG001
        for kind in ("png", "svg"):
            path.with_name(f"{path.name}.{kind}").touch()

    monkeypatch.setattr(report, "save_both", touch)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of four methods, and one of a method that was stopped before its end."""
    folder = write_methods(tmp_path_factory.mktemp("runs"), LEVELS)
    high = {250: [1.0] * 3, 500: [1.0] * 3}
    write_run_folder(folder / "stopped", make_config(method="equal", seed=9), high)
    return folder
