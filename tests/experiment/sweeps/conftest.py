"""A quick stand-in for training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mtrl_ntk.experiment.sweeps import sweep as sweep_module
from tests.experiment.sweeps.made_sweeps import FakeTraining


@pytest.fixture(scope="module")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> FakeTraining:
    return FakeTraining(tmp_path_factory.mktemp("fake") / "training")


@pytest.fixture
def fake(training_folder: FakeTraining, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTraining]:
    """A quick training, on a machine of two cores."""
    monkeypatch.setattr(sweep_module, "_POLL_S", 0.02)
    monkeypatch.setattr(sweep_module, "usable_cores", lambda: 2)
    monkeypatch.setattr("mtrl_ntk.rl.envs.config.usable_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield training_folder
    training_folder.behave()
    training_folder.forget()
