"""Pairs of scanned digits: both to be named, their sum, and the image itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.settings import LARGEST_SEED, Settings, number
from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples
from mtrl_ntk.supervised.tasks import Classification, Reconstruction, Regression

_SIDE = 8
_BRIGHTEST = 16.0
_NUM_TEST_SCANS = 540
"""Of 1797, the last."""
_MEAN_SUM, _SUM_SCALE = 9.0, 4.0
"""Mean and about the deviation of the sum of two digits."""


@dataclass(frozen=True)
class DigitsConfig(Settings):
    """Settings of the pairs of digits."""

    train_pairs: int = number(4000, at_least=1, limit=10**6)
    """Pairs to learn from."""
    test_pairs: int = number(1000, at_least=1, limit=10**6)
    """Pairs to measure on, made of scans that are in no pair to learn from."""
    pairing_seed: int = number(0, at_least=0, at_most=LARGEST_SEED)
    """Seed by which scans are paired."""


class Digits(Dataset):
    """Two of scikit-learn's scanned digits, eight pixels wide, side by side.

    The tasks use all kinds of losses: two of classes, one of a number and one of pixels.
    """

    name = "digits"
    title = "pairs of scanned digits, of scikit-learn"
    config_class = DigitsConfig
    task_names = ("left", "right", "sum", "reconstruction")
    networks = ("small_cnn",)
    tasks = (
        Classification("left", 10),
        Classification("right", 10),
        Regression("sum", scale=_SUM_SCALE),
        Reconstruction("reconstruction", 2 * _SIDE**2),
    )
    inputs = (1, _SIDE, 2 * _SIDE)

    def __init__(self, config: DigitsConfig) -> None:
        images, labels = _load_scans()
        rng = np.random.default_rng(config.pairing_seed)
        num_train = len(images) - _NUM_TEST_SCANS
        drawn = {
            "train": rng.integers(num_train, size=(config.train_pairs, 2)),
            "test": rng.integers(num_train, len(images), size=(config.test_pairs, 2)),
        }
        self._images, self._labels = images, labels
        self._pairs = {split: torch.from_numpy(pairs) for split, pairs in drawn.items()}

    def size(self, split: str) -> int:
        """Pairs of a split."""
        return len(self._pairs[split])

    def batch(
        self,
        split: str,
        indices: Sequence[int],
        generator: torch.Generator | None = None,  # noqa: ARG002 - digits are learnt as they are
    ) -> Examples:
        """Some pairs of a split."""
        left, right = self._pairs[split][torch.as_tensor(indices, dtype=torch.int64)].T
        images = torch.cat([self._images[left], self._images[right]], dim=-1)
        sums = (self._labels[left] + self._labels[right]).float()
        return Examples(
            images,
            {
                "left": self._labels[left],
                "right": self._labels[right],
                "sum": (sums - _MEAN_SUM) / _SUM_SCALE,
                "reconstruction": images.flatten(1),
            },
        )


def _load_scans() -> tuple[Tensor, Tensor]:
    """Images ``[scans, 1, 8, 8]`` from 0 to 1, and which digits they show."""
    if importlib.util.find_spec("sklearn") is None:
        raise ConfigError(
            "dataset digits needs scikit-learn, which brings the scans; pip install scikit-learn"
        )
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    scans = torch.from_numpy(images / _BRIGHTEST).float()
    return scans.view(-1, 1, _SIDE, _SIDE), torch.from_numpy(labels).long()
