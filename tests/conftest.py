"""What all tests share: fixed seeds and one thread, so that a failure repeats."""

from __future__ import annotations

import os
import random

import hypothesis
import pytest
import torch

os.environ["MPLBACKEND"] = "agg"  # plots need no display
torch.set_num_threads(1)  # small tensors gain nothing, and tests may run side by side
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    torch.manual_seed(0)
