"""An agent whose tensors and random stream were saved goes on as if it had never stopped."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.types import Batch
from tests.rl.agents import COMBINATIONS, FEW, OPTIONS, TASKS, make_weighting

OBSERVATION, ACTION, ROWS = 5, 2, 8
ONE_OF_EACH: dict[str, tuple[str, str]] = {
    **{method: (method, network) for method, network in COMBINATIONS},
    **{network: (method, network) for method, network in COMBINATIONS if method == "ntkmtl"},
}
"""Every method, and every network."""


def make_agent(
    method: str,
    network: str = "shared",
    seed: int = 0,
    **settings: Any,  # noqa: ANN401
) -> MultiTaskSAC:
    settings = {"batch_size": ROWS, "width": 8, "depth": 2, "policy_tau": 0.5, **settings}
    config = SacConfig(network=network, **settings)
    return MultiTaskSAC(
        TASKS,
        OBSERVATION,
        ACTION,
        config=config,
        make_weighting=partial(make_weighting, method),
        seed=seed,
        num_updates=8,
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
    check_going_on(method, network)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("method", "network"), FEW)
def test_every_option_goes_on_bit_for_bit(method: str, network: str, option: str) -> None:
    check_going_on(method, network, **OPTIONS[option])


def check_going_on(method: str, network: str, **settings: Any) -> None:  # noqa: ANN401
    agent, other = (make_agent(method, network, seed, **settings) for seed in (0, 99))
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


class OperandPlaces(TorchDispatchMode):
    """Notes of each product where its operands lie within the 64 bytes that torch aligns to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: list[tuple[str, list[int]]] = []

    def __torch_dispatch__(
        self,
        operation: Any,  # noqa: ANN401
        _: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """See the base class."""
        name = operation.overloadpacket.__name__
        if name in _PRODUCTS:
            operands = [*args, *(kwargs or {}).values()]
            tensors = [operand for operand in operands if isinstance(operand, Tensor)]
            self.places.append((name, [tensor.data_ptr() % 64 for tensor in tensors]))
        return operation(*args, **(kwargs or {}))


_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "vdot"}


def shifted(tensor: Tensor, num_bytes: int) -> Tensor:
    """A copy that begins so far behind where torch would have put it."""
    memory = torch.empty(num_bytes + tensor.nbytes, dtype=torch.uint8)
    return memory[num_bytes:].view(tensor.dtype).view(tensor.shape).copy_(tensor)


@pytest.mark.parametrize("num_bytes", [8, 16, 32])
@pytest.mark.parametrize(
    ("method", "network"),
    [
        ("ntkmtl", "shared"),
        ("upgrad", "task_embedding"),
        ("ntkmtl_sr", "multi_head"),
        ("equal", "independent"),
    ],
)
def test_where_operands_lie_does_not_depend_on_what_came_before(
    method: str, network: str, num_bytes: int
) -> None:
    # A product may round by the alignment of its operands, and files and NumPy align by chance.
    agent, other = make_agent(method, network), make_agent(method, network, seed=99)
    agent.update(batches(1)[0])
    for load, state in (
        (other.load_state_dict, agent.state_dict()),
        (other.load_optimizer_state, agent.optimizer_state()),
    ):
        load({name: shifted(t, num_bytes * bool(t.numel())) for name, t in state.items()})
    other.generator.set_state(agent.generator.get_state())
    observations = torch.rand(TASKS, 1, OBSERVATION)
    found = []
    for each, seen in ((agent, observations), (other, shifted(observations, num_bytes))):
        with OperandPlaces() as noted:
            actions = [each.act(seen), each.act(seen, deterministic=True)]
            metrics = each.update(batches(2)[1])
        found.append((noted.places, [*actions, *metrics.values()]))
    (places, results), (other_places, other_results) = found
    assert places == other_places != []
    assert all(map(torch.equal, results, other_results))


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
