"""Base classes of methods: each draws its statistic alone, and what is divided by has a floor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighting import (
    GramianWeighting,
    JacobianWeighting,
    KernelWeighting,
    LossWeighting,
    NormWeighting,
    Weighting,
    floored,
)
from tests.balancing.problems import Problem, statistics


@pytest.mark.parametrize(
    "base", [LossWeighting, NormWeighting, GramianWeighting, KernelWeighting, JacobianWeighting]
)
def test_a_method_sees_the_statistic_of_its_base(base: type[Weighting], problem: Problem) -> None:
    class Watching(base):  # type: ignore[misc, valid-type]
        def forward(self, statistic: Tensor) -> Tensor:
            self.seen = statistic
            return statistic.flatten(1).sum(1) if statistic.ndim > 1 else statistic

    method = Watching(4)
    given = statistics(method, problem)
    assert method.weigh(given).shape == (4,)
    gradients = problem.sequential().gradients()
    expected = {
        LossWeighting: problem.sample_losses().mean(1),
        NormWeighting: gradients.square().sum(1),
        GramianWeighting: gradients @ gradients.T,
        KernelWeighting: gradients.square().sum(1)[:, None, None],
        JacobianWeighting: gradients,
    }
    assert_close(method.seen, expected[base].detach())


def test_the_mean_stands_in_for_a_loss_that_is_not_finite(problem: Problem) -> None:
    given = statistics(LossWeightingOfOnes(4), problem)
    losses = torch.tensor([1.0, torch.nan, 3.0, torch.inf])
    assert given._replace(losses=losses).task_losses.tolist() == [1.0, 2.0, 3.0, 2.0]
    hopeless = torch.full((4,), torch.nan)
    assert given._replace(losses=hopeless).task_losses.tolist() == [0.0] * 4


@pytest.mark.parametrize("num_tasks", [0, -1, 2.5, True, "3"])
def test_a_number_of_tasks_that_is_none_is_refused(num_tasks: object) -> None:
    with pytest.raises(ValueError, match=f"the number of tasks is {num_tasks!r}; it must be"):
        METHODS["equal"](num_tasks)  # type: ignore[arg-type]


@pytest.mark.parametrize("config", ["", {"exponent": 1.0}, METHODS["mgda"].config_class()])
def test_a_config_of_something_else_is_refused(config: object) -> None:
    with pytest.raises(ValueError, match=r"the config of NTKMTL is .*; it must be made by NTKMTLC"):
        METHODS["ntkmtl"](2, config)


@pytest.mark.parametrize("method", METHODS)
def test_states_keep_the_digits_of_single_precision(method: str) -> None:
    weighting, kept = METHODS[method](3, None, 5), METHODS[method](3, None, 5)
    weighting.to(torch.bfloat16)
    for name, tensor in weighting.state_dict().items():
        assert_close(tensor, kept.state_dict()[name], rtol=0, atol=0)
    weighting.double()
    floats = [buffer for buffer in weighting.buffers() if buffer.is_floating_point()]
    assert all(buffer.dtype == torch.float64 for buffer in floats)


class LossWeightingOfOnes(LossWeighting):
    """The least of a method."""

    def forward(self, task_losses: Tensor) -> Tensor:
        return torch.ones_like(task_losses)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_a_floor_is_a_share_of_the_mean(scale: float) -> None:
    values = scale * torch.tensor([0.0, 1.0, 3.0, 4.0])
    assert_close(floored(values, 0.1) / scale, torch.tensor([0.2, 1.0, 3.0, 4.0]))
    assert floored(torch.zeros(2), 0.1).min() > 0
