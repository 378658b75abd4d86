"""What all data sets are given and give."""

from __future__ import annotations

import torch

from mtrl_ntk.supervised.datasets.dataset import Examples


def test_examples_move_whole_and_know_their_number() -> None:
    device = torch.device("meta")
    for inputs in (torch.zeros(3, 1, 2, 2), {"nodes": torch.zeros(3, 4)}):
        examples = Examples(inputs, {"left": torch.zeros(3), "right": torch.zeros(3, 2)})
        moved = examples.to(device)
        assert len(examples) == len(moved) == 3
        parts = moved.inputs.values() if isinstance(moved.inputs, dict) else [moved.inputs]
        assert {part.device for part in [*parts, *moved.targets.values()]} == {device}
