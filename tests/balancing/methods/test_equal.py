"""Equal weights: one for every task, whatever it says."""

from __future__ import annotations

import torch

from mtrl_ntk.balancing.methods.equal import Equal
from tests.balancing.problems import Problem, weigh


def test_every_weight_is_one(problem: Problem) -> None:
    with torch.no_grad():
        problem.scales[1] = torch.nan
    assert weigh(Equal(4), problem).tolist() == [1.0] * 4
