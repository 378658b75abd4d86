"""Two processes balance as one process with both their batches does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from mtrl_ntk.balancing import TaskBalancer, Weighting, record
from mtrl_ntk.balancing.methods import METHODS

TASKS, ROWS = 3, 8


class Forked(nn.Module):
    """A trunk whose outputs every head reads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6))
        self.heads = nn.ModuleList([nn.Linear(6, width) for width in (1, 2, 3)])

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """The outputs of each head."""
        features = self.trunk(inputs)
        return [head(features) for head in self.heads]


def make_forked(method: Weighting, **options: object) -> tuple[Forked, TaskBalancer]:
    """Such a network, always the same, with its balancer."""
    torch.manual_seed(0)
    network = Forked().double()
    return network, TaskBalancer(method, network.trunk, network.heads, **options)  # type: ignore[arg-type]


def losses_of(outputs: list[Tensor]) -> list[Tensor]:
    """Losses of all rows, ``[rows]`` each, of unlike size and sign of their gradients."""
    return [
        10.0**task * (output - (-1.0) ** task).square().sum(1)
        for task, output in enumerate(outputs)
    ]


def descend(network: nn.Module, step: Callable[[], object]) -> list[Tensor]:
    """Takes three steps; returns the parameters."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.manual_seed(rank)
    for _ in range(3):
        optimizer.zero_grad()
        step()
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


def shared_input(name: str, inputs: Tensor, *, wrapped: bool) -> list[Tensor]:
    """All tasks read one input, ``[rows, 4]``."""
    network, balancer = make_forked(METHODS[name](TASKS).double())
    balanced = DistributedDataParallel(network) if wrapped else network

    def step() -> None:
        balancer.backward([loss.mean() for loss in losses_of(balanced(inputs))])
        after = losses_of(balanced(inputs))
        balancer.observe([loss.mean() / (2 + task) for task, loss in enumerate(after)])

    return descend(network, step)


def accumulated(name: str, inputs: Tensor, *, wrapped: bool) -> list[Tensor]:
    """The same in two parts, that are left and right halves of the mini-batches."""
    network, balancer = make_forked(METHODS[name](TASKS).double(), weigh_own=True)
    balanced = DistributedDataParallel(network) if wrapped else network

    def step() -> None:
        for part in by_minibatch(inputs, 2).unbind():
            balancer.backward(losses_of(balanced(part)), factor=0.5)

    return descend(network, step)


def represented(kernel: str, inputs: Tensor, *, wrapped: bool) -> list[Tensor]:
    """NTKMTL-SR with two mini-batches."""
    method = METHODS["ntkmtl_sr"]
    config = method.config_class(num_minibatches=2, representation_kernel=kernel)
    network, balancer = make_forked(method(TASKS, config).double())
    balancer = TaskBalancer(
        balancer.weighting, network.trunk, network.heads, representation=network.trunk
    )
    balanced = DistributedDataParallel(network) if wrapped else network
    return descend(network, lambda: balancer.backward(losses_of(balanced(inputs))))


def recorded(name: str, inputs: Tensor, *, wrapped: bool) -> list[Tensor]:
    """Each task has rows of its own; two mini-batches of them, for a method that wants some."""
    method = METHODS[name]
    config = method.config_class(num_minibatches=2) if name == "ntkmtl" else None
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 1)).double()
    balancer = TaskBalancer(method(TASKS, config).double(), network)
    balanced: Any = DistributedDataParallel(network) if wrapped else network
    scales = torch.tensor([1.0, -3.0, 10.0], dtype=torch.float64)[:, None, None]

    def step() -> None:
        with record(balanced) as recording:
            outputs = balanced(torch.stack([inputs, inputs.flip(1), -inputs]))
        balancer.backward((scales * outputs + 1).square().squeeze(2), recording=recording)

    return descend(network, step)


CASES: dict[str, Callable[..., list[Tensor]]] = {
    **dict.fromkeys(("ntkmtl", "rlw", "pcgrad", "famo", "moco"), shared_input),
    **{f"{name}, accumulated": accumulated for name in ("ntkmtl", "pcgrad", "si")},
    **{f"{kernel} of a representation": represented for kernel in ("features", "rows")},
    **{f"{name}, recorded": recorded for name in ("ntkmtl", "pcgrad", "unit_norm")},
}


def by_minibatch(inputs: Tensor, num_minibatches: int) -> Tensor:
    """``[mini-batches, rows, ...]`` of rows in order."""
    parts: Tensor = inputs.unflatten(0, (num_minibatches, -1))
    return parts


def run(case: str, inputs: Tensor, *, wrapped: bool) -> list[Tensor]:
    """The parameters that a case ends with."""
    return CASES[case](case.split(", ")[0].split(" ")[0], inputs, wrapped=wrapped)


def batches() -> tuple[list[Tensor], Tensor]:
    """The rows of each process, and those of one, of which each mini-batch is that of both."""
    inputs = torch.randn(
        2, ROWS, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    together = torch.cat([by_minibatch(each, 2) for each in inputs], dim=1).flatten(0, 1)
    return list(inputs), together


def work(rank: int, store: str) -> None:
    """What each process does."""
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    inputs = batches()[0][rank]
    found = {
        (case, wrapped): run(case, inputs, wrapped=wrapped)
        for case in CASES
        for wrapped in (True, False)
    }
    torch.save(found, f"{store}.{rank}")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, list[Tensor]]]:
    """What each of two processes ends with, in all cases."""
    store = str(tmp_path_factory.mktemp("store") / "store")
    multiprocessing.spawn(work, (store,), nprocs=2)  # type: ignore[no-untyped-call, attr-defined]
    return [torch.load(f"{store}.{rank}") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo takes other addresses there")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("wrapped", [True, False])
def test_processes_agree_with_each_other_and_with_one(
    both: list[dict[Any, list[Tensor]]], case: str, *, wrapped: bool
) -> None:
    first, second = (each[case, wrapped] for each in both)
    assert all(map(torch.equal, first, second))
    for found, expected in zip(first, run(case, batches()[1], wrapped=False), strict=True):
        assert_close(found, expected, rtol=1e-9, atol=1e-12)
