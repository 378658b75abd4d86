"""Pairs of digits."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.supervised.datasets.digits import Digits, DigitsConfig


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits(DigitsConfig(train_pairs=60, test_pairs=20))


def test_examples_are_pairs_with_a_target_for_each_task(digits: Digits) -> None:
    assert (digits.size("train"), digits.size("test")) == (60, 20)
    batch = digits.batch("test", [3, 1, 1])
    assert isinstance(batch.inputs, torch.Tensor)
    assert batch.inputs.shape == (3, *digits.inputs)
    assert 0 <= float(batch.inputs.min()) < float(batch.inputs.max()) <= 1
    assert tuple(batch.targets) == digits.task_names == tuple(task.name for task in digits.tasks)
    sums = batch.targets["left"] + batch.targets["right"]
    torch.testing.assert_close(batch.targets["sum"] * 4 + 9, sums.float())
    torch.testing.assert_close(batch.targets["reconstruction"], batch.inputs.flatten(1))
    torch.testing.assert_close(batch.inputs[1], batch.inputs[2])
    torch.testing.assert_close(batch.inputs[1:2], digits.batch("test", [1]).inputs)


def test_outputs_of_the_tasks_fit_their_losses(digits: Digits) -> None:
    batch = digits.batch("train", range(5))
    for task in digits.tasks:
        losses = task.losses(torch.zeros(5, task.outputs), batch.targets[task.name])
        assert losses.shape == (5,)


def test_no_scan_is_in_both_splits(digits: Digits) -> None:
    def scans(split: str) -> set[bytes]:
        inputs = digits.batch(split, range(digits.size(split))).inputs
        assert isinstance(inputs, torch.Tensor)
        return {half.numpy().tobytes() for image in inputs for half in image.split(8, dim=-1)}

    assert not scans("train") & scans("test")


def test_pairs_are_those_of_their_seed() -> None:
    def images(seed: int) -> torch.Tensor:
        config = DigitsConfig(train_pairs=60, test_pairs=20, pairing_seed=seed)
        inputs = Digits(config).batch("train", range(60)).inputs
        assert isinstance(inputs, torch.Tensor)
        return inputs

    assert torch.equal(images(0), images(0))
    assert not torch.equal(images(0), images(1))


def test_without_scikit_learn_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs scikit-learn.*pip install scikit-learn"):
        Digits(DigitsConfig())
