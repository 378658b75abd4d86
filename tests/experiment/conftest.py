"""What tests of runs and videos share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mtrl_ntk.experiment.reports import report
from mtrl_ntk.experiment.training import run as training
from mtrl_ntk.experiment.videos.filming import require_video
from mtrl_ntk.experiment.videos.opengl import RenderingError
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD


@pytest.fixture(scope="session")
def backend() -> str:
    """An OpenGL that draws here; without one, tests that look at pictures are skipped."""
    try:
        return require_video(METAWORLD)
    except RenderingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def no_plots() -> Iterator[None]:
    """Runs end without plots, which take longer than a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "plot_run", lambda _: [])
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without the time that pictures take, for tests that look at none."""

    def touch(_: Figure, path: Path, *, palette: bool = True) -> None:  # noqa: ARG001
        for kind in ("png", "svg"):
            path.with_name(f"{path.name}.{kind}").touch()

    monkeypatch.setattr(report, "save_both", touch)
