"""One balanced step: what it does to the parameters, and what it refuses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mtrl_ntk.balancing import BalancedStep, Balancer, Tape, Weighting
from mtrl_ntk.balancing.layers import split_parameters
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.weighting import LossWeighting
from tests.balancing.problems import Problem, make_problem

every_method = pytest.mark.parametrize("method", METHODS)
weighing_methods = [name for name, method in METHODS.items() if method.combine is Weighting.combine]


@pytest.fixture
def headed() -> Problem:
    """A problem that every method can balance: the last layer is the tasks' own."""
    return make_problem(own="head", batch_size=8)


def make_balancer(problem: Problem, method: str = "equal", max_grad_norm: float = 0.0) -> Balancer:
    """A balancer whose gradient can be read off the parameters' change: SGD with step size one."""
    optimizer = torch.optim.SGD(problem.parameters, lr=1.0)
    weighting = METHODS[method](4, None, problem.num_shared).double()
    return Balancer(problem.network, weighting, optimizer, max_grad_norm)


def step(problem: Problem, balancer: Balancer, *, diagnose: bool = False) -> BalancedStep:
    """Takes one step on the problem's batch."""
    tape = Tape()
    losses = problem.sample_losses(tape)
    return balancer.step(
        tape, losses, reevaluate=lambda: problem.sample_losses(), diagnose=diagnose
    )


@pytest.mark.parametrize("method", weighing_methods)
def test_step_descends_the_weighted_mean_of_the_losses(method: str, headed: Problem) -> None:
    untouched = deepcopy(headed)
    result = step(headed, make_balancer(headed, method))
    losses = untouched.sample_losses().mean(1)
    shared, own = split_parameters(untouched.network)
    gradients = [
        *torch.autograd.grad((result.weights * losses).mean(), shared, retain_graph=True),
        *torch.autograd.grad(losses.mean(), own),
    ]
    after = itertools.chain(*split_parameters(headed.network))
    for now, before, gradient in zip(after, [*shared, *own], gradients, strict=True):
        assert_close(before - now, gradient)


@pytest.mark.parametrize("max_grad_norm", [0.0, 1e-3])
def test_networks_that_share_nothing_descend_their_own_losses(max_grad_norm: float) -> None:
    problem = make_problem(own="all")
    untouched = deepcopy(problem)
    step(problem, make_balancer(problem, max_grad_norm=max_grad_norm))
    gradients = torch.autograd.grad(untouched.sample_losses().mean(1).sum(), untouched.parameters)
    norms = torch.cat([gradient.flatten(1) for gradient in gradients], 1).norm(dim=1)
    factors = (max_grad_norm / norms).clamp(max=1.0) if max_grad_norm else torch.ones_like(norms)
    for now, before, gradient in zip(
        problem.parameters, untouched.parameters, gradients, strict=True
    ):
        expected = gradient * factors.view(-1, *[1] * (gradient.ndim - 1))
        assert_close(before - now, expected, rtol=1e-3, atol=1e-9)


def test_clipping_counts_the_tasks_own_gradients(headed: Problem) -> None:
    before = deepcopy(headed.parameters)
    result = step(headed, make_balancer(headed, max_grad_norm=1e-2))
    changes = [now - then for now, then in zip(headed.parameters, before, strict=True)]
    assert result.gradient_norm > 1e-2
    assert torch.cat([change.flatten() for change in changes]).norm().item() == pytest.approx(1e-2)


class Watching(LossWeighting):
    """A method that remembers the losses after the step."""

    observes_step = True
    observed: Tensor | None = None

    def forward(self, task_losses: Tensor) -> Tensor:
        """Ones."""
        return torch.ones_like(task_losses)

    def observe(self, task_losses: Tensor) -> None:
        """Remembers."""
        self.observed = task_losses


def test_a_method_can_see_what_its_step_did(problem: Problem) -> None:
    weighting = Watching(4)
    optimizer = torch.optim.SGD(problem.parameters, lr=1e-3)
    result = step(problem, Balancer(problem.network, weighting, optimizer))
    assert weighting.observed is not None
    assert_close(weighting.observed, problem.sample_losses().mean(1).detach())
    assert not torch.equal(weighting.observed, result.losses)


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
    method: str, broken: list[int], headed: Problem
) -> None:
    headed.targets[broken] = torch.nan
    before = deepcopy(headed.parameters)
    result = step(headed, make_balancer(headed, method))
    assert (result.weights[broken] == 0).all()
    assert result.weights.any()
    assert result.skipped.nonzero().flatten().tolist() == broken
    assert all(parameter.isfinite().all() for parameter in headed.parameters)
    assert not any(map(torch.equal, before, headed.parameters))


class Reckless(LossWeighting):
    """A method that answers with numbers that are none."""

    def forward(self, task_losses: Tensor) -> Tensor:
        """Weights of which two are not finite."""
        return task_losses.new_tensor([1.0, torch.nan, torch.inf, 2.0])


def test_weights_that_are_not_finite_take_no_part(problem: Problem) -> None:
    optimizer = torch.optim.SGD(problem.parameters, lr=1.0)
    result = step(problem, Balancer(problem.network, Reckless(4), optimizer))
    assert result.weights.tolist() == [1.0, 0.0, 0.0, 2.0]
    assert result.skipped.tolist() == [0, 1, 1, 0]
    assert all(parameter.isfinite().all() for parameter in problem.parameters)


class Overflowing(LossWeighting):
    """A method whose weights are finite, but what they weigh is not."""

    def forward(self, task_losses: Tensor) -> Tensor:
        """Weights near the largest number."""
        return torch.full_like(task_losses, torch.finfo(task_losses.dtype).max)


@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_step_that_overflows_is_none(problem: Problem, max_grad_norm: float) -> None:
    before = deepcopy(problem.parameters)
    optimizer = torch.optim.SGD(problem.parameters, lr=1.0)
    result = step(problem, Balancer(problem.network, Overflowing(4), optimizer, max_grad_norm))
    assert result.skipped.tolist() == [1, 1, 1, 1]
    assert all(map(torch.equal, before, problem.parameters))


@every_method
def test_nothing_moves_when_every_task_is_broken(method: str, headed: Problem) -> None:
    before = deepcopy(headed.parameters)
    headed.targets.fill_(torch.nan)
    result = step(headed, make_balancer(headed, method))
    assert not result.weights.any()
    assert all(map(torch.equal, before, headed.parameters))


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.positive_losses])
def test_methods_that_need_positive_losses_say_so(method: str, headed: Problem) -> None:
    headed.scales = -headed.scales
    with pytest.raises(ValueError, match="needs losses of at least zero; they are"):
        step(headed, make_balancer(headed, method))


@pytest.mark.parametrize("method", METHODS)
def test_methods_made_without_a_number_of_parameters_take_the_same_step(method: str) -> None:
    problems = [make_problem(own="head", batch_size=8)]
    problems.append(deepcopy(problems[0]))
    noise = torch.randn(1000, dtype=torch.float64)
    for problem, size in zip(problems, (problems[0].num_shared, 0), strict=True):
        weighting = METHODS[method](4, None, size).double()
        optimizer = torch.optim.SGD(problem.parameters, lr=1e-2)
        balancer = Balancer(problem.network, weighting, optimizer)
        for _ in range(3):
            tape = Tape()
            losses = problem.sample_losses(tape)
            shape = weighting.noise_shape
            drawn = noise[: math.prod(shape)].view(shape)
            balancer.step(tape, losses, noise=drawn, reevaluate=losses.detach)
    for one, other in zip(problems[0].parameters, problems[1].parameters, strict=True):
        assert torch.equal(one, other)


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
    balancer = Balancer(layer, METHODS["equal"](2), torch.optim.SGD(layer.parameters()))
    tape = Tape()
    outputs = tape(layer, tape(layer, torch.randn(2, 4, 3)))
    with pytest.raises(ValueError, match="2 parameters in 4 places"):
        balancer.step(tape, outputs.square().sum(2))


def followed(problem: Problem, balancer: Balancer, steps: int = 3) -> list[Tensor]:
    """The parameters after some steps."""
    for _ in range(steps):
        step(problem, balancer)
    return [parameter.detach().clone() for parameter in problem.parameters]


def drop_gradients(_: Problem, balancer: Balancer) -> None:
    """What ``optimizer.zero_grad()`` does."""
    assert isinstance(balancer.optimizer, torch.optim.Optimizer)
    balancer.optimizer.zero_grad()


def add_other_gradients(problem: Problem, balancer: Balancer) -> None:
    """A backward pass of something else, into gradients that were dropped."""
    drop_gradients(problem, balancer)
    problem.sample_losses().sum().backward()


def balance_twice(problem: Problem, _: Balancer) -> None:
    """Another balancer of the same network."""
    make_balancer(problem)


@pytest.mark.parametrize("meddle", [drop_gradients, add_other_gradients, balance_twice])
@pytest.mark.parametrize("own", ["nothing", "head"])
def test_gradients_are_this_steps_whatever_became_of_them(
    meddle: Callable[[Problem, Balancer], None], own: str
) -> None:
    problem = make_problem(own=own)
    expected = followed(twin := deepcopy(problem), make_balancer(twin, "ntkmtl"))
    balancer = make_balancer(problem, "ntkmtl")
    for _ in range(3):
        meddle(problem, balancer)
        found = followed(problem, balancer, 1)
    assert_close(found, expected)


def test_networks_may_change_their_precision() -> None:
    problem = make_problem(dtype=torch.float32)
    balancer = make_balancer(problem)
    problem.network.double()
    double = make_problem()
    problem.inputs, problem.targets, problem.scales = double.inputs, double.targets, double.scales
    expected = followed(twin := deepcopy(problem), make_balancer(twin))
    assert_close(followed(problem, balancer), expected)


@pytest.mark.parametrize("method", ["ntkmtl", "pcgrad"])
@pytest.mark.parametrize("frozen", ["0.weight", "0.bias", "1.weight", "2.bias", "2.weight"])
@pytest.mark.parametrize("num_minibatches", [1, 2])
def test_frozen_parameters_stay_and_do_not_count(
    method: str, frozen: str, num_minibatches: int
) -> None:
    problem = make_problem(layer_norm=True)
    balancer = make_balancer(problem, method)
    balancer.weighting.num_minibatches = num_minibatches
    step(problem, balancer)
    parameter = dict(problem.network.layers.named_parameters())[frozen]
    parameter.requires_grad_(False)
    before = parameter.clone()
    rows = problem_rows(problem, num_minibatches)
    result = step(problem, balancer)
    assert torch.equal(parameter, before)
    assert_close(
        result.eigenvalues, torch.linalg.eigvalsh(rows @ rows.mT)[:, -1], rtol=1e-3, atol=0
    )


def problem_rows(problem: Problem, num_minibatches: int) -> Tensor:
    """Gradients of the mini-batches in what is trained, ``[tasks, n, entries]``."""
    trained = [parameter for parameter in problem.parameters if parameter.requires_grad]
    losses = problem.sample_losses().unflatten(1, (num_minibatches, -1)).mean(2)
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained, retain_graph=True)])
        for loss in losses.flatten()
    ]
    matrices: Tensor = torch.stack(rows).unflatten(0, losses.shape)
    return matrices


@pytest.mark.parametrize("axes", [(4, 7), (2, 3, 5)])
@pytest.mark.parametrize("path", ["ntkmtl", "pcgrad"])
def test_rows_may_have_more_axes(axes: tuple[int, ...], path: str) -> None:
    layers = nn.Sequential(nn.Linear(axes[-1], 6), nn.LayerNorm((*axes[-2:-1], 6)), nn.Linear(6, 2))
    layers.double()
    inputs = torch.randn(3, 4, *axes, dtype=torch.float64)
    weighting = METHODS[path](3)
    weighting.num_minibatches = 2
    balancer = Balancer(layers, weighting, torch.optim.SGD(layers.parameters(), lr=1.0))
    tape = Tape()
    outputs = tape(layers[2], tape(layers[1], tape(layers[0], inputs)).tanh())
    losses = torch.tensor([0.1, 1.0, 10.0])[:, None] * outputs.square().flatten(2).sum(2)
    before = deepcopy(layers)
    result = balancer.step(tape, losses)
    outputs = before[2](before[1](before[0](inputs)).tanh())
    losses = torch.tensor([0.1, 1.0, 10.0])[:, None] * outputs.square().flatten(2).sum(2)
    expected = torch.autograd.grad(
        (result.weights * losses.mean(1)).mean(), list(before.parameters())
    )
    for now, then, change in zip(layers.parameters(), before.parameters(), expected, strict=True):
        assert_close(then - now, change)


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.Adam, partial(torch.optim.Adam, fused=True), torch.optim.AdamW, torch.optim.Rprop],
)
def test_steps_that_are_none_move_no_optimiser(
    optimizer: Callable[..., torch.optim.Optimizer], problem: Problem
) -> None:
    moving = optimizer(problem.parameters, lr=1e-2)
    balancer = Balancer(problem.network, METHODS["ntkmtl"](4), moving)
    followed(problem, balancer)
    before = deepcopy(problem.parameters)
    problem.targets.fill_(torch.nan)
    assert step(problem, balancer).skipped.all()
    assert all(map(torch.equal, before, problem.parameters))


def test_misuse_is_named(problem: Problem) -> None:
    balancer = make_balancer(problem)
    for losses in (torch.zeros(4), torch.zeros(6, 4), torch.zeros(4, 6, 2)):
        with pytest.raises(ValueError, match=r"not \[tasks, rows\] of the 4 tasks"):
            balancer.step(Tape(), losses)
    with pytest.raises(ValueError, match="FAMO learns from the losses after each step"):
        make_balancer(problem, "famo").step(tape := Tape(), problem.sample_losses(tape))
    lbfgs: Any = torch.optim.LBFGS(problem.parameters)
    with pytest.raises(ValueError, match=r"TaskBalancer\.backward in its closure"):
        Balancer(problem.network, METHODS["equal"](4), lbfgs)
    with pytest.raises(ValueError, match="none of the network's parameters"):
        Balancer(problem.network, METHODS["equal"](4), torch.optim.SGD([torch.zeros(1)]))
    with pytest.raises(ValueError, match="shares nothing between tasks"):
        make_balancer(make_problem(own="all"), "ntkmtl")
    anything: Any = nn.ReLU
    with pytest.raises(ValueError, match=r"network is <class .*ReLU'>; it must be a module"):
        Balancer(anything, METHODS["equal"](4), torch.optim.SGD(problem.parameters))


@pytest.mark.parametrize("max_grad_norm", [-1.0, torch.nan, torch.inf, "1", None, True])
def test_norms_that_cannot_be_meant_are_refused(problem: Problem, max_grad_norm: object) -> None:
    with pytest.raises(ValueError, match=f"max_grad_norm is {max_grad_norm!r}; it must be"):
        make_balancer(problem, max_grad_norm=max_grad_norm)  # type: ignore[arg-type]


def test_other_processes_are_not_left_behind(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtrl_ntk.balancing.balancer.num_processes", lambda: 2)
    with pytest.raises(ValueError, match="TaskBalancer averages over them"):
        make_balancer(problem)


def test_tied_weights_are_an_error(problem: Problem) -> None:
    layers = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)).double()
    layers[1].weight = layers[0].weight
    balancer = Balancer(layers, METHODS["equal"](4), torch.optim.SGD(layers.parameters()))
    tape = Tape()
    losses = tape(layers[1], tape(layers[0], problem.inputs)).square().sum(2)
    with pytest.raises(ValueError, match="a parameter in common"):
        balancer.step(tape, losses)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_are_never_below_float32(dtype: torch.dtype) -> None:
    problem = make_problem(dtype=dtype)
    problem.scales = torch.ones(4, dtype=dtype)
    result = step(problem, make_balancer(problem, "ntkmtl"))
    assert result.eigenvalues.dtype == result.losses.dtype == torch.float32
    assert all(p.dtype == dtype and p.isfinite().all() for p in problem.parameters)


@pytest.mark.slow
@every_method
def test_every_method_descends_the_losses(method: str) -> None:
    problem = make_problem(own="head", batch_size=8)
    problem.scales = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    weighting = METHODS[method](4, None, problem.num_shared).double()
    optimizer = torch.optim.Adam(problem.parameters, lr=1e-2)
    balancer = Balancer(problem.network, weighting, optimizer)
    first = step(problem, balancer).losses
    for _ in range(150):
        last = step(problem, balancer).losses
    assert (last < 0.8 * first).all(), (first, last)
