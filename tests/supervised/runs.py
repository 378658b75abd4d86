"""Small supervised runs."""

from __future__ import annotations

from pathlib import Path

from mtrl_ntk.supervised.config import SUPERVISED, SupervisedConfig

BATCHES, EPOCHS = 4, 2


def tiny(run_dir: Path | None = None, **settings: object) -> SupervisedConfig:
    """A run of a second: four updates of two epochs each on pairs of digits."""
    small: dict[str, object] = {
        "train_pairs": 8 * BATCHES + 3,
        "test_pairs": 21,
        "batch_size": 8,
        "epochs": EPOCHS,
        "width": 2,
        "features": 8,
        "threads": 1,
        "device": "cpu",
        "log_every": 3,
        "run_dir": None if run_dir is None else str(run_dir),
    }
    return SUPERVISED.from_dict({**small, **settings})
