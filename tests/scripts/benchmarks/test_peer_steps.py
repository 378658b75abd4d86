"""Peers that step a critic: they learn the same as we do."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from scripts.benchmarks.agents import Size
from scripts.benchmarks.peer_steps import (
    AutogramStep,
    AutojacStep,
    CriticStep,
    OwnStep,
    SequentialStep,
    StableBaselinesUpdate,
    VmapStep,
)

SIZE = Size(tasks=3, rows=8, width=16, depth=2)


@pytest.mark.parametrize("peer", [SequentialStep, VmapStep, AutojacStep, AutogramStep])
def test_a_peer_takes_the_same_steps(peer: type[CriticStep]) -> None:
    own, other = OwnStep(SIZE), peer(SIZE)
    start = [parameter.clone() for parameter in own.parameters]
    assert_close(start, [parameter.clone() for parameter in other.parameters], atol=0, rtol=0)
    for _ in range(3):
        own.step()
        other.step()
    assert not any(torch.equal(*pair) for pair in zip(start, own.parameters, strict=True))
    # Adam's first steps are of full size even where a gradient is rounding alone.
    assert_close(other.parameters, own.parameters, atol=2e-5, rtol=1e-3)


def test_the_steps_are_weighted() -> None:
    own = OwnStep(SIZE)
    own.targets[0] *= 100
    losses = own.task_losses()
    norms = [
        sum(g.square().sum() for g in torch.autograd.grad(loss, own.parameters, retain_graph=True))
        for loss in losses
    ]
    weights = own.weigh(torch.stack([torch.as_tensor(norm) for norm in norms]))
    assert weights[0] < 0.1 * weights[1:].min()


def test_stable_baselines_learns_from_a_network_and_a_batch_of_the_same_size() -> None:
    pytest.importorskip("stable_baselines3")
    peer = StableBaselinesUpdate(SIZE)
    memory = peer.model.replay_buffer
    assert memory is not None
    assert memory.size() == SIZE.tasks * SIZE.rows
    critic = OwnStep(SIZE).critic
    shapes = [parameter.shape for parameter in peer.model.critic.parameters()]
    assert shapes == [parameter.shape for parameter in critic.parameters()]
    before = [parameter.clone() for parameter in peer.model.policy.parameters()]
    peer.step()
    after = list(peer.model.policy.parameters())
    changed = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert all(changed)
