"""What all data sets are given and give."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples, Inputs
from mtrl_ntk.supervised.datasets.digits import DigitsConfig
from mtrl_ntk.supervised.tasks import Regression


class Numbers(Dataset):
    """Numbers to be named."""

    name = title = "numbers"
    config_class = DigitsConfig
    task_names = ("itself",)
    networks = ()
    tasks = (Regression("itself"),)
    inputs = (1,)

    def __init__(self, numbers: Tensor, *, in_parts: bool = False) -> None:
        self.numbers, self._in_parts = numbers, in_parts

    def size(self, split: str) -> int:
        return len(self.numbers) - (split == "test")

    def batch(
        self, split: str, indices: Sequence[int], generator: torch.Generator | None = None
    ) -> Examples:
        assert split in self.splits
        assert generator is None
        chosen = self.numbers[list(indices)]
        inputs: Inputs = {"number": chosen} if self._in_parts else chosen
        return Examples(inputs, {"itself": chosen})


def test_other_data_have_another_fingerprint() -> None:
    data = torch.arange(6.0)
    ahead = data + 1
    kinds = [data, data[:5], ahead, data.double(), data[:, None]]
    found = {Numbers(each).fingerprint for each in kinds}
    assert len(found | {Numbers(data, in_parts=True).fingerprint}) == 6
    assert Numbers(data.clone()).fingerprint == Numbers(data).fingerprint


def test_examples_move_whole_and_know_their_number() -> None:
    device = torch.device("meta")
    for inputs in (torch.zeros(3, 1, 2, 2), {"nodes": torch.zeros(3, 4)}):
        examples = Examples(inputs, {"left": torch.zeros(3), "right": torch.zeros(3, 2)})
        moved = examples.to(device)
        assert len(examples) == len(moved) == 3
        parts = moved.inputs.values() if isinstance(moved.inputs, dict) else [moved.inputs]
        assert {part.device for part in [*parts, *moved.targets.values()]} == {device}


def test_images_are_laid_out_for_the_device_and_stay_the_same() -> None:
    images = torch.randn(2, 3, 4, 5)
    moved = Examples(images, {"itself": torch.zeros(2)}).to(torch.device("cpu")).inputs
    assert isinstance(moved, Tensor)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, images)
    elsewhere = Examples(images, {"itself": torch.zeros(2)}).to(torch.device("meta")).inputs
    assert isinstance(elsewhere, Tensor)
    assert elsewhere.is_contiguous()
