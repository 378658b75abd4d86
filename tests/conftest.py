"""What all tests share: fixed seeds and one thread, so that a failure repeats."""

from __future__ import annotations

import os
import random
import signal
from collections import deque
from collections.abc import Iterator

import hypothesis
import pytest
import torch

from mtrl_ntk.rl.suites.metaworld import shared_model
from mtrl_ntk.rl.suites.registry import SUITES

os.environ["MPLBACKEND"] = "agg"  # plots need no display
# A shell has what it starts in the background ignore Ctrl-C, and nohup a closed terminal; so would
# what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
torch.set_num_threads(1)  # small tensors gain nothing, and tests may run side by side
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


shared_model._latest = deque(maxlen=10)  # rather than one, which spares tests reading files again


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds an option that takes tests which draw their cases to other cases."""
    help_text = "added to the seeds of tests that compare environments on drawn cases"
    parser.addoption("--seed-offset", type=int, default=0, help=help_text)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first: at the end, one of them would keep one process of two."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def seed_offset(pytestconfig: pytest.Config) -> int:
    """What is added to a test's seeds."""
    offset: int = pytestconfig.getoption("--seed-offset")
    return offset


@pytest.fixture(autouse=True, scope="module")
def _suites() -> Iterator[None]:
    """Forgets the suites that a module's tests have brought."""
    known = dict(SUITES)
    yield
    SUITES.clear()
    SUITES.update(known)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    torch.manual_seed(0)
