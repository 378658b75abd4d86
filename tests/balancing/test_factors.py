"""What a layer leaves behind: which way to its answers is the cheaper one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtrl_ntk.balancing import Tape


@pytest.mark.parametrize(
    ("tasks", "rows", "input_dim", "num_minibatches", "expected"),
    [
        (10, 128, 400, 1, False),
        (10, 128, 400, 4, True),
        (10, 26, 400, 1, True),
        (2, 26, 400, 1, False),
        (10, 128, 53, 4, False),
        (10, 32, 256, 1, True),
        (10, 32, 63, 1, False),
    ],
)
def test_the_cheaper_path_is_taken(
    tasks: int, rows: int, input_dim: int, num_minibatches: int, *, expected: bool
) -> None:
    tape = Tape()
    tape(nn.Linear(input_dim, 400), torch.zeros(tasks, rows, input_dim))
    assert tape.shared[0].prefers_kernels(num_minibatches) == expected
