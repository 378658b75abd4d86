"""Agents whose updates are timed: what they learn, and with which options."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment.config import defaults
from mtrl_ntk.rl.sac import Part, make_weighting
from scripts.benchmarks.agents import PlainSAC, Size, Variant, make_agent, make_batch

SIZE = Size(tasks=2, rows=8, width=16)


def test_methods_get_the_options_that_they_have() -> None:
    variants = [
        *[Variant("ntkmtl", 4), Variant("sequential", 2), Variant("equal")],
        Variant("ntkmtl", kernel="output"),
    ]
    weightings = [
        make_agent(variant, SIZE, "shared", "cpu").critic_balancer.weighting for variant in variants
    ]
    found = [(weighting.num_minibatches, weighting.kernel_source) for weighting in weightings]
    assert found == [(4, "loss"), (2, "loss"), (1, "loss"), (1, "output")]


@pytest.mark.parametrize("part", ["critic", "actor"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_balance_the_networks_that_they_balance_in_a_run(method: str, part: Part) -> None:
    in_a_run = make_weighting(METHODS[method], defaults(method).weighting, 2, part, 5)
    assert type(Variant(method).weighting(2, part, 5)) is type(in_a_run)


@pytest.mark.parametrize("network", ["shared", "task_embedding", "multi_head"])
def test_plain_learns_what_equal_weights_learn(network: str) -> None:
    batch = make_batch(SIZE, "cpu")
    plain, equal = (make_agent(Variant(name), SIZE, network, "cpu") for name in ("plain", "equal"))
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    for _ in range(3):
        plain.update(batch)
        equal.update(batch)
    after = plain.state_dict()
    assert not any(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert_close(after, equal.state_dict(), atol=2e-5, rtol=1e-3)


def test_plain_refuses_to_run_through_a_tape() -> None:
    agent = make_agent(Variant("plain"), SIZE, "shared", "cpu")
    assert isinstance(agent, PlainSAC)
    agent.critic._forward_pre_hooks.clear()
    with pytest.raises(RuntimeError, match="tape"):
        agent.update(make_batch(SIZE, "cpu"))
