"""A quick stand-in for training, on any machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.experiment.sweeps.made_sweeps import FakeTraining


@pytest.fixture
def fake(training_folder: FakeTraining) -> Iterator[FakeTraining]:
    yield training_folder
    training_folder.behave()
    training_folder.forget()
