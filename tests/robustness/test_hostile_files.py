"""Whatever a file holds, it is read, or refused in one line: no traceback, no hang, no flood."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from mtrl_ntk.errors import UserError
from tests.robustness.bad_inputs import listing
from tests.robustness.hostile_loaders import LOADERS, Loader

FAST_INPUTS, SLOW_INPUTS = 400, 30_000
_BATCH = 50
_PATIENCE_S = 5.0
"""CPU time of one input; the longest takes a tenth."""
_MOST_GROWTH = 400 << 10
"""Of the memory's peak, in units of 1024 bytes."""


def test_valid_files_are_read(tmp_path: Path) -> None:
    for number, loader in enumerate(LOADERS.values()):
        folder = tmp_path / str(number)
        loader.restore(folder)
        loader.read(folder)


@pytest.mark.parametrize("name", LOADERS)
def test_spoilt_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    fuzz(LOADERS[name], tmp_path, share(name, FAST_INPUTS))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_many_more_spoilt_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    fuzz(LOADERS[name], tmp_path, share(name, SLOW_INPUTS))


def share(name: str, inputs: int) -> int:
    """How many of all inputs a loader gets."""
    return max(5, inputs * LOADERS[name].weight // sum(one.weight for one in LOADERS.values()))


def fuzz(loader: Loader, tmp_path: Path, inputs: int) -> None:
    """Reads so many spoilt inputs; nothing beside them may change."""
    folder, beside = tmp_path / "inputs", tmp_path / "outside"
    beside.write_text("kept")
    batch = min(_BATCH, inputs)

    # Batches, as drawing from hypothesis takes longer than reading; a seed repeats its batch.
    @settings(
        max_examples=inputs // batch,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**62))
    def run(seed: int) -> None:
        for number in range(batch):
            read_one(loader, folder, f"{seed}/{number}")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loader.restore(folder)
    outside = listing(tmp_path.parent, but=folder)
    run()
    assert listing(tmp_path.parent, but=folder) == outside
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MOST_GROWTH


def read_one(loader: Loader, folder: Path, seed: str) -> None:
    loader.restore(folder)
    loader.spoil(random.Random(seed), folder)
    start = time.process_time()
    said = "nothing"
    try:
        loader.read(folder)
    except UserError as error:
        said = str(error)
    except Exception as error:
        error.args = (f"input {seed}: {error}",)
        raise
    assert said.strip(), seed
    assert time.process_time() - start < _PATIENCE_S, seed
