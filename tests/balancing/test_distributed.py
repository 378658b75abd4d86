"""Two processes balance as one process with both their batches does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.testing import assert_close

from mtrl_ntk.balancing import TaskBalancer
from mtrl_ntk.balancing.methods import METHODS

CASES = [(method, wrapped) for method in ("ntkmtl", "rlw") for wrapped in (True, False)]
"""Methods, one of which draws, with and without what averages gradients by itself."""


def train(network: nn.Module, balanced: nn.Module, inputs: Tensor, method: str) -> list[Tensor]:
    """Takes three steps; returns the parameters."""
    trunk, heads = network[0], list(network)[1:]  # type: ignore[index, call-overload]
    balancer = TaskBalancer(METHODS[method](2), trunk, heads)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    torch.manual_seed(0 if distributed.is_initialized() is False else distributed.get_rank())
    for _ in range(3):
        optimizer.zero_grad()
        outputs = balanced(inputs)
        balancer.backward([output.square().mean() for output in outputs])
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


class Forked(nn.Sequential):
    """A trunk whose outputs every head reads."""

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """The outputs of each head."""
        trunk, *heads = self
        hidden = torch.tanh(trunk(inputs))
        return [head(hidden) for head in heads]


def make() -> tuple[Forked, Tensor]:
    """A network and its inputs, always the same."""
    torch.manual_seed(0)
    network = Forked(nn.Linear(4, 6), nn.Linear(6, 1), nn.Linear(6, 3)).double()
    return network, torch.randn(8, 4, dtype=torch.float64)


def work(rank: int, store: str) -> None:
    """What each process does."""
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    results = []
    for method, wrapped in CASES:
        network, inputs = make()
        balanced = nn.parallel.DistributedDataParallel(network) if wrapped else network
        results.append(train(network, balanced, inputs[4 * rank :][:4], method))
    torch.save(results, f"{store}.{rank}")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo takes other addresses there")
def test_processes_agree_with_each_other_and_with_one(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    multiprocessing.spawn(work, (store,), nprocs=2)  # type: ignore[no-untyped-call, attr-defined]
    results = [torch.load(f"{store}.{rank}") for rank in range(2)]
    for (method, _), first, second in zip(CASES, *results, strict=True):
        assert all(map(torch.equal, first, second))
        network, inputs = make()
        for found, expected in zip(first, train(network, network, inputs, method), strict=True):
            assert_close(found, expected)
