"""What the comparison with autograd finds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_ntk.balancing import Balancer, Tape, apply_layer
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.tape import ApplyLayer
from tests.balancing.problems import make_problem


class Network(nn.Module):
    """Two hidden layers and a last one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, inputs: Tensor, apply: ApplyLayer = apply_layer) -> Tensor:
        """Maps ``[tasks, rows, 6]`` to losses ``[tasks, rows]``."""
        hidden = torch.tanh(apply(self.b, torch.tanh(apply(self.a, inputs))))
        outputs: Tensor = apply(self.last, hidden)
        return outputs.square().squeeze(2)


def step(network: Network, losses: Tensor, tape: Tape) -> None:
    """One balanced step."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    Balancer(network, METHODS["ntkmtl"](3), optimizer).step(tape, losses)


def used_outside(network: Network, inputs: Tensor, tape: Tape) -> Tensor:
    """Losses of which one layer has a part that no tape knows."""
    losses: Tensor = network(inputs, tape) + network(network.a(inputs)) ** 2
    return losses


def regularised(network: Network, inputs: Tensor, tape: Tape) -> Tensor:
    """Losses with a penalty."""
    losses: Tensor = network(inputs, tape) + 0.5 * network.b.weight.square().sum()
    return losses


def normalised_across_rows(network: Network, inputs: Tensor, tape: Tape) -> Tensor:
    """Losses of which each depends on the other tasks' rows."""
    hidden = tape(network.a, inputs).flatten(0, 1)
    hidden = functional.batch_norm(hidden, None, None, training=True).view(3, 8, 6)
    return tape(network.last, tape(network.b, hidden)).square().squeeze(2)


@pytest.mark.parametrize(
    ("losses", "named"),
    [
        (used_outside, "a.weight"),
        (regularised, r"of b.weight \(off by"),
        (normalised_across_rows, "a.weight"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_layers_do_beside_the_tape_is_an_error(
    losses: object, named: str, dtype: torch.dtype
) -> None:
    network, tape = Network().to(dtype), Tape()
    assert callable(losses)
    found = losses(network, torch.randn(3, 8, 6, dtype=dtype), tape)
    with pytest.raises(ValueError, match=f"do not give autograd's gradients.*{named}"):
        step(network, found, tape)


def test_the_check_can_be_left_out_and_asked_for() -> None:
    network = Network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    balancer = Balancer(network, METHODS["ntkmtl"](3), optimizer, check=False)

    def take_step() -> None:
        tape = Tape()
        balancer.step(tape, regularised(network, torch.randn(3, 8, 6), tape))

    take_step()
    balancer.check_next_step()
    with pytest.raises(ValueError, match=r"b\.weight"):
        take_step()


@pytest.mark.parametrize("own", ["nothing", "head", "embedding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_healthy_networks_pass(own: str, dtype: torch.dtype, scale: float) -> None:
    problem = make_problem(own=own, layer_norm=True, batch_size=8, dtype=dtype)
    problem.scales *= scale
    ntkmtl = METHODS["ntkmtl"]
    optimizer = torch.optim.SGD(problem.parameters, lr=0.0)
    weighting = ntkmtl(4, ntkmtl.config_class(num_minibatches=2))
    balancer = Balancer(problem.network, weighting, optimizer)
    tape = Tape()
    balancer.step(tape, problem.sample_losses(tape))


def test_a_broken_task_puts_the_check_off() -> None:
    network, tape = Network(), Tape()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    balancer = Balancer(network, METHODS["ntkmtl"](3), optimizer)
    inputs = torch.randn(3, 8, 6)
    inputs[1, 0, 0] = torch.nan
    balancer.step(tape, regularised(network, inputs, tape))
    tape = Tape()
    with pytest.raises(ValueError, match=r"b\.weight"):
        balancer.step(tape, regularised(network, torch.randn(3, 8, 6), tape))
