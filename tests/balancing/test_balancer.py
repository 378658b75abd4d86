"""One balanced step: what it does to the parameters, and what it refuses."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mtrl_ntk.balancing import BalancedStep, Balancer, Tape
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighting import LossWeighting
from tests.balancing.problems import Problem

every_method = pytest.mark.parametrize("method", METHODS)


def make_balancer(problem: Problem, method: str = "equal", max_grad_norm: float = 0.0) -> Balancer:
    """A balancer whose gradient can be read off the parameters' change: SGD with step size one."""
    optimizer = torch.optim.SGD(problem.parameters, lr=1.0)
    return Balancer(problem.parameters, METHODS[method](4), optimizer, max_grad_norm)


def step(problem: Problem, balancer: Balancer, *, diagnose: bool = False) -> BalancedStep:
    """Takes one step on the problem's batch."""
    tape = Tape()
    return balancer.step(tape, problem.sample_losses(tape), diagnose=diagnose)


@every_method
def test_step_descends_the_weighted_mean_of_the_losses(method: str, problem: Problem) -> None:
    untouched = deepcopy(problem)
    result = step(problem, make_balancer(problem, method))
    loss = (result.weights * untouched.sample_losses().mean(1)).mean()
    gradients = torch.autograd.grad(loss, untouched.parameters)
    for after, before, gradient in zip(
        problem.parameters, untouched.parameters, gradients, strict=True
    ):
        assert_close(before - after, gradient)


def test_reports_what_happened(problem: Problem) -> None:
    jacobian = problem.factored()
    losses = problem.sample_losses().mean(1)
    result = step(problem, make_balancer(problem, "ntkmtl"), diagnose=True)
    gramian = jacobian.gramian()
    norms = gramian.diagonal().sqrt()
    combined = jacobian.combine(result.weights)
    assert_close(result.losses, losses.detach())
    assert_close(result.eigenvalues, jacobian.squared_norms())
    assert_close(result.gradient_norm, combined.norm())
    assert result.minimum_cosine is not None
    assert_close(result.minimum_cosine, (gramian / (norms[:, None] * norms)).min())
    assert not result.skipped.any()


def test_cosines_are_computed_on_demand_only(problem: Problem) -> None:
    assert step(problem, make_balancer(problem)).minimum_cosine is None


@pytest.mark.parametrize("max_grad_norm", [1e-3, 1e3])
def test_clips_the_combined_gradient(problem: Problem, max_grad_norm: float) -> None:
    before = torch.cat([parameter.detach().flatten() for parameter in problem.parameters])
    result = step(problem, make_balancer(problem, max_grad_norm=max_grad_norm))
    after = torch.cat([parameter.detach().flatten() for parameter in problem.parameters])
    expected = min(max_grad_norm, result.gradient_norm.item())
    assert (before - after).norm().item() == pytest.approx(expected, rel=1e-5)


@every_method
@pytest.mark.parametrize("broken", [[2], [0, 2]])
def test_broken_tasks_get_weight_zero_and_are_counted(
    method: str, broken: list[int], problem: Problem
) -> None:
    problem.targets[broken] = torch.nan
    result = step(problem, make_balancer(problem, method))
    healthy = [task for task in range(4) if task not in broken]
    assert (result.weights[broken] == 0).all()
    assert (result.weights[healthy] > 0).all()
    assert result.skipped.nonzero().flatten().tolist() == broken
    assert all(parameter.isfinite().all() for parameter in problem.parameters)


class Reckless(LossWeighting):
    """A method that answers with numbers that are none."""

    def forward(self, task_losses: Tensor) -> Tensor:
        """Weights of which two are not finite."""
        return task_losses.new_tensor([1.0, torch.nan, torch.inf, 2.0])


def test_weights_that_are_not_finite_take_no_part(problem: Problem) -> None:
    optimizer = torch.optim.SGD(problem.parameters, lr=1.0)
    result = step(problem, Balancer(problem.parameters, Reckless(4), optimizer))
    assert result.weights.tolist() == [1.0, 0.0, 0.0, 2.0]
    assert result.skipped.tolist() == [0, 1, 1, 0]
    assert all(parameter.isfinite().all() for parameter in problem.parameters)


@every_method
def test_nothing_moves_when_every_task_is_broken(method: str, problem: Problem) -> None:
    before = [parameter.detach().clone() for parameter in problem.parameters]
    problem.targets.fill_(torch.nan)
    result = step(problem, make_balancer(problem, method))
    assert not result.weights.any()
    assert all(map(torch.equal, before, problem.parameters))


def test_a_layer_outside_the_tape_is_an_error(problem: Problem) -> None:
    balancer = make_balancer(problem)
    first = problem.network.layers[0]
    tape = Tape()
    hidden = torch.tanh(first(problem.inputs))
    outputs = tape(problem.network.layers[1], hidden)
    with pytest.raises(ValueError, match="2 parameters in 2 places, the network has 4"):
        balancer.step(tape, outputs.square().sum(2))


def test_a_layer_used_twice_is_an_error() -> None:
    layer = nn.Linear(3, 3)
    parameters = list(layer.parameters())
    balancer = Balancer(parameters, METHODS["equal"](2), torch.optim.SGD(parameters))
    tape = Tape()
    outputs = tape(layer, tape(layer, torch.randn(2, 4, 3)))
    with pytest.raises(ValueError, match="2 parameters in 4 places"):
        balancer.step(tape, outputs.square().sum(2))
