"""An agent whose tensors and random stream were saved goes on as if it had never stopped."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.types import Batch
from tests.rl.agents import COMBINATIONS, TASKS, make_weighting

OBSERVATION, ACTION, ROWS = 5, 2, 8
ONE_OF_EACH: dict[str, tuple[str, str]] = {
    **{method: (method, network) for method, network in COMBINATIONS},
    **{network: (method, network) for method, network in COMBINATIONS if method == "ntkmtl"},
}
"""Every method, and every network."""


def make_agent(method: str, network: str = "shared", seed: int = 0) -> MultiTaskSAC:
    config = SacConfig(batch_size=ROWS, width=8, depth=2, network=network, policy_tau=0.5)
    return MultiTaskSAC(
        TASKS,
        OBSERVATION,
        ACTION,
        config=config,
        make_weighting=partial(make_weighting, method),
        seed=seed,
    )


def batches(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.rand(TASKS, ROWS, *shape, generator=generator)

    return [
        Batch(draw(OBSERVATION), draw(ACTION), draw(), draw(OBSERVATION), torch.zeros(TASKS, ROWS))
        for _ in range(count)
    ]


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def everything(agent: MultiTaskSAC) -> dict[str, Tensor]:
    return copied({**agent.state_dict(), **agent.optimizer_state()})


@pytest.mark.parametrize(("method", "network"), ONE_OF_EACH.values(), ids=ONE_OF_EACH)
def test_every_method_goes_on_bit_for_bit(method: str, network: str) -> None:
    agent, other = make_agent(method, network), make_agent(method, network, seed=99)
    before, after = batches(11)[:6], batches(11)[6:]
    for batch in before:
        agent.update(batch)
    other.update(before[0])  # what it was before must not matter
    other.load_state_dict(copied(agent.state_dict()))
    other.load_optimizer_state(copied(agent.optimizer_state()))
    other.generator.set_state(agent.generator.get_state())
    for batch in after:
        expected, metrics = agent.update(batch), other.update(batch)
        assert all(torch.equal(metrics[name], expected[name]) for name in expected)
    own, others = everything(agent), everything(other)
    assert own.keys() == others.keys()
    for name, tensor in own.items():
        assert torch.equal(tensor, others[name]), name


def test_an_agent_that_has_not_learnt_has_no_moments() -> None:
    agent, other = make_agent("equal"), make_agent("equal")
    assert agent.optimizer_state() == {}
    other.update(batches(1)[0])
    other.load_optimizer_state({})
    assert other.optimizer_state() == {}


def test_what_is_loaded_is_not_written_to() -> None:
    agent = make_agent("equal")
    agent.update(batches(1)[0])
    saved = copied(agent.optimizer_state())
    kept = copied(saved)
    agent.load_optimizer_state(saved)
    agent.update(batches(2)[1])
    assert all(torch.equal(saved[name], kept[name]) for name in kept)


def test_moments_of_another_agent_are_refused() -> None:
    agent = make_agent("equal")
    agent.update(batches(1)[0])
    state = agent.optimizer_state()
    fewer = {name: tensor for name, tensor in state.items() if not name.startswith("actor.0.")}
    with pytest.raises(ValueError, match="the actor's moments are not of 6 parameters"):
        agent.load_optimizer_state(fewer)
    with pytest.raises(ValueError, match="the critic's moments are"):
        agent.load_optimizer_state({**state, "critic.0.exp_avg": torch.zeros(3)})
    incomplete = {name: tensor for name, tensor in state.items() if name != "critic.0.exp_avg"}
    with pytest.raises(ValueError, match="the critic's moments are"):
        agent.load_optimizer_state(incomplete)
