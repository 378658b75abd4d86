"""What a device does in an update: kernels, and the rate of a product."""

from __future__ import annotations

import torch

from scripts.benchmarks.gpu_updates import best_rate, count_kernels

CPU = torch.device("cpu")


def test_kernels_and_rates_are_those_of_what_ran() -> None:
    values = torch.ones(3)
    few, more = (lambda: values.add(1)), (lambda: values.add(1).mul(2).sub(3))
    assert 0 < count_kernels(few, CPU) < count_kernels(more, CPU)
    assert best_rate("float32", CPU, size=16) > 0
