"""NTKMTL-SR on any network: kernels of a named representation, one pass through the trunk."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mtrl_ntk.balancing import BalancedStep, TaskBalancer
from mtrl_ntk.balancing.methods.ntkmtl_sr import NTKMTLSR, NTKMTLSRConfig
from tests.balancing.networks import TRUNKS, SharedInput, make_shared_input
from tests.balancing.test_task_balancer import gradient


def weighting(num_minibatches: int, kernel: str = "features") -> NTKMTLSR:
    """The method for three tasks."""
    config = NTKMTLSRConfig(num_minibatches=num_minibatches, representation_kernel=kernel)  # type: ignore[arg-type]
    return NTKMTLSR(3, config)


def kernels(parts: list[list[Tensor]], z: Tensor, kernel: str, axes: int = 1) -> Tensor:
    """Eq. 17 by a backward pass for each mini-batch of each task."""
    rows = []
    for losses in parts:
        found = [torch.autograd.grad(part, z, retain_graph=True)[0] for part in losses]
        by_row = torch.stack(found).flatten(1, axes).flatten(2)
        rows.append(by_row.sum(1) if kernel == "features" else by_row.flatten(1))
    return torch.stack([row @ row.T for row in rows])


def expected_weights(kernel: Tensor) -> Tensor:
    """Eq. 18."""
    eigenvalues = torch.linalg.eigvalsh(kernel)[:, -1]
    weights: Tensor = (eigenvalues.mean() / eigenvalues).sqrt()
    return weights


def check_step(problem: SharedInput, step: BalancedStep, weights: Tensor) -> None:
    """A step's weights, and that the parameters' gradients are what these make of the losses."""
    assert_close(step.weights, weights, rtol=1e-4, atol=0)
    losses = [loss.mean() for loss in problem.sample_losses()]
    shared = torch.autograd.grad((step.weights * torch.stack(losses)).mean(), problem.shared)
    assert_close(gradient(problem.shared), torch.cat([g.flatten() for g in shared]))
    own = torch.autograd.grad(torch.stack(problem.losses()).mean(), problem.own)
    assert_close(gradient(problem.own), torch.cat([g.flatten() for g in own]))


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("num_minibatches", [1, 4])
@pytest.mark.parametrize("kernel", ["features", "rows"])
def test_weights_follow_the_kernels_of_a_named_module(
    trunk: str, num_minibatches: int, kernel: str
) -> None:
    problem = make_shared_input(trunk)
    network = problem.network
    balancer = TaskBalancer(
        weighting(num_minibatches, kernel),
        network.trunk,
        network.heads,
        representation=network.trunk,
    )
    z = network.trunk(problem.inputs)
    parts = [list(each.chunk(num_minibatches)) for each in problem.sample_losses(z)]
    expected = expected_weights(kernels([[p.mean() for p in each] for each in parts], z, kernel))
    problem.sample_losses()[0].sum().backward()  # another pass in between
    network.zero_grad()
    step = balancer.backward(problem.sample_losses())
    check_step(problem, step, expected)


@pytest.mark.parametrize("split", [False, True])
def test_heads_may_couple_the_rows(*, split: bool) -> None:
    problem = make_shared_input()
    problem.network.heads[1] = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4)).double()
    z = problem.network.trunk(problem.inputs)
    losses = problem.sample_losses(z)
    parts = [[part.mean() for part in each.chunk(2)] for each in losses]
    balancer = TaskBalancer(weighting(2, "rows"), problem.network.trunk, problem.network.heads)
    given = torch.stack([torch.stack(each) for each in parts]) if split else torch.stack(losses)
    step = balancer.backward(given, representation=z)
    check_step(problem, step, expected_weights(kernels(parts, z, "rows")))


class PerTask(nn.Module):
    """A trunk for inputs of each task's own, and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(3))

    def losses(self, z: Tensor) -> Tensor:
        """Losses ``[tasks, rows]`` of features ``[tasks, rows, 5]``."""
        outputs = [head(part) for head, part in zip(self.heads, z, strict=True)]
        return 10 * torch.stack(outputs).squeeze(2).square()


def by_rows(network: PerTask, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One call of the trunk, and losses row by row."""
    z = network.trunk(inputs)
    return network.losses(z), [z]


def by_minibatches(network: PerTask, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One call of the trunk, and losses of mini-batches."""
    z = network.trunk(inputs)
    return network.losses(z).unflatten(1, (2, 4)).mean(2), [z]


def by_tasks(network: PerTask, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """A call of the trunk for each task."""
    z = [network.trunk(each) for each in inputs]
    return network.losses(torch.stack(z)), z


@pytest.mark.parametrize("way", [by_rows, by_minibatches, by_tasks])
@pytest.mark.parametrize("kernel", ["features", "rows"])
def test_tasks_may_have_inputs_of_their_own(
    way: Callable[[PerTask, Tensor], tuple[Tensor, list[Tensor]]], kernel: str
) -> None:
    network, inputs = PerTask().double(), torch.randn(3, 8, 4, dtype=torch.float64)
    balancer = TaskBalancer(
        weighting(2, kernel), network.trunk, network.heads, representation=network.trunk
    )
    losses, _ = way(network, inputs)
    step = balancer.backward(losses)
    z = network.trunk(inputs)
    parts = [[part.mean() for part in each.chunk(2)] for each in network.losses(z)]
    expected = expected_weights(kernels(parts, z, kernel, axes=2))
    assert_close(step.weights, expected, rtol=1e-4, atol=0)
    loss = (step.weights * network.losses(z).mean(1)).mean()
    grads = torch.autograd.grad(loss, list(network.trunk.parameters()))
    assert_close(
        gradient(list(network.trunk.parameters())), torch.cat([g.flatten() for g in grads])
    )


def test_the_trunk_is_passed_once() -> None:
    problem = make_shared_input()
    passes: list[int] = []
    trunk = problem.network.trunk
    balancer = TaskBalancer(
        weighting(4), trunk, problem.network.heads, representation=trunk, check=False
    )
    balancer.backward(problem.sample_losses())
    trunk[2].register_full_backward_hook(lambda *_: passes.append(1))
    balancer.backward(problem.sample_losses())
    assert len(passes) == 1


class Token:
    """What lives as long as a graph."""


def test_graphs_that_nobody_wants_are_gone() -> None:
    problem, tokens = make_shared_input(), []
    network = problem.network

    def mark(_: nn.Module, __: object, outputs: Tensor) -> None:
        node: Any = outputs.grad_fn
        node.metadata["token"] = token = Token()
        tokens.append(ref(token))

    network.trunk.register_forward_hook(mark)
    balancer = TaskBalancer(
        weighting(4), network.trunk, network.heads, representation=network.trunk
    )
    for _ in range(3):
        losses = problem.sample_losses()
    assert [token() is None for token in tokens] == [True, True, False]
    balancer.backward(losses)
    del losses
    assert tokens[2]() is None


def test_balancers_may_be_copied_between_the_passes() -> None:
    problem = make_shared_input()
    network = problem.network
    balancer = TaskBalancer(
        weighting(4), network.trunk, network.heads, representation=network.trunk
    )
    losses = problem.sample_losses()
    problem.network, other = deepcopy((network, balancer))
    assert_close(other.backward(problem.sample_losses()).weights, balancer.backward(losses).weights)
    assert_close(gradient(problem.shared), gradient(list(network.trunk.parameters())))


def test_calls_for_single_tasks_count_as_one_though_heads_keep_nothing() -> None:
    trunk, inputs = nn.Linear(4, 3).double(), torch.randn(3, 8, 4, dtype=torch.float64)
    balancer = TaskBalancer(weighting(1), trunk, representation=trunk)
    trunk(inputs[0])  # a pass for another purpose
    losses = [10.0**task * trunk(each)[:, task] for task, each in enumerate(inputs)]
    step = balancer.backward(losses)
    expected = torch.autograd.grad(
        (step.weights * torch.stack([loss.mean() for loss in losses])).mean(),
        list(trunk.parameters()),
    )
    assert_close(gradient(list(trunk.parameters())), torch.cat([g.flatten() for g in expected]))
    assert_close(step.weights[0] / step.weights[1], torch.tensor(10.0).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_representations_under_autocast(trunk: str) -> None:
    problem = make_shared_input(trunk, dtype=torch.float32)
    network = problem.network
    balancer = TaskBalancer(
        weighting(4), network.trunk, network.heads, representation=network.trunk
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6)
    with torch.autocast("cpu", torch.bfloat16):
        losses = problem.sample_losses()
    step = balancer.backward(losses, scaler=scaler)
    assert step.eigenvalues.dtype == torch.float32
    mean = (step.weights * torch.stack([loss.float().mean() for loss in losses])).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(mean, problem.shared)])
    error = (gradient(problem.shared) / 2.0**6 - expected).norm()
    assert error < 0.1 * expected.norm()


def test_an_overflow_puts_the_check_off() -> None:
    problem = make_shared_input(dtype=torch.float32)
    network = problem.network
    balancer = TaskBalancer(
        weighting(1), network.trunk, network.heads, representation=network.trunk
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    penalty = network.trunk[0].weight.square().sum()
    assert balancer.backward(problem.losses(), scaler=scaler).skipped.any()
    with pytest.raises(ValueError, match="beside the representation"):
        balancer.backward([loss + penalty for loss in problem.losses()])


def test_what_goes_round_the_representation_is_an_error() -> None:
    problem = make_shared_input()
    network = problem.network
    balancer = TaskBalancer(
        weighting(1), network.trunk, network.heads, representation=network.trunk
    )
    penalty = network.trunk[0].weight.square().sum()
    with pytest.raises(ValueError, match="beside the representation"):
        balancer.backward([loss + penalty for loss in problem.losses()])


def test_a_representation_has_to_be_named() -> None:
    problem = make_shared_input()
    balancer = TaskBalancer(weighting(1), problem.network.trunk, problem.network.heads)
    with pytest.raises(ValueError, match="name the module that makes it"):
        balancer.backward(problem.losses())
    balancer = TaskBalancer(weighting(4), problem.network.trunk, problem.network.heads)
    z = problem.network.trunk(problem.inputs)
    with pytest.raises(ValueError, match="1 rows per task cannot be split into 4"):
        balancer.backward([each.mean() for each in problem.sample_losses(z)], representation=z)


def test_modules_that_return_no_tensor_are_refused() -> None:
    gru = nn.GRU(4, 5)
    TaskBalancer(weighting(1), gru, representation=gru)
    with pytest.raises(TypeError, match="GRU returns no tensor"):
        gru(torch.zeros(2, 3, 4))


def test_a_broken_task_is_left_out() -> None:
    problem = make_shared_input()
    problem.numbers[0] = torch.nan
    network = problem.network
    balancer = TaskBalancer(
        weighting(4), network.trunk, network.heads, representation=network.trunk
    )
    step = balancer.backward(problem.sample_losses())
    assert step.skipped.tolist() == [1, 0, 0]
    losses = torch.stack(problem.losses()[1:])
    expected = torch.autograd.grad((step.weights[1:] * losses).sum() / 3, problem.shared)
    assert_close(gradient(problem.shared), torch.cat([g.flatten() for g in expected]))
