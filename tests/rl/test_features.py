"""Features: all networks of an agent see the same ones, in place of the observations."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.policy import RowPolicy
from mtrl_ntk.rl.features import (
    Features,
    MappedObservations,
    RawObservations,
    RunningObservations,
    make_features,
)
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.suites.features import Term, entries, feature_map
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD
from mtrl_ntk.rl.types import Batch, Transitions
from tests.rl.agents import TASKS, make_weighting

ROWS, OBSERVATION, ACTION = 6, 4, 2


class Magnified(Features):
    """Observations in another scale, and once more where they are small."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__(2 * OBSERVATION)
        self.register_buffer("scale", torch.tensor(3.0))

    def forward(self, observations: Tensor) -> Tensor:
        scaled = self.scale * observations
        return torch.cat([scaled, (10 * scaled).tanh()], dim=-1)


def test_products_of_low_precision_leave_small_differences() -> None:
    near = feature_map([], [Term(entries(2, 0) - entries(2, 1), 40)])
    observations = torch.tensor([[[0.6, 0.6], [0.601, 0.6]]])
    with torch.autocast("cpu", torch.bfloat16):
        values = MappedObservations(near)(observations)
    assert_close(values[0, :, 0], torch.tensor([0.0, 0.04]).tanh(), atol=1e-5, rtol=1e-4)


def test_unknown_features_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="'near'; it must be one of raw, running, relative"):
        make_features("near", METAWORLD, 3)
    assert isinstance(make_features("raw", METAWORLD, 3), RawObservations)


def make_agent(
    observation_dim: int = OBSERVATION, features: Features | None = None
) -> MultiTaskSAC:
    return MultiTaskSAC(
        TASKS,
        observation_dim,
        ACTION,
        config=SacConfig(batch_size=ROWS, width=8, depth=2, policy_tau=0.5),
        make_weighting=partial(make_weighting, "ntkmtl"),
        seed=0,
        features=features,
    )


def make_batch() -> Batch:
    observations, following = torch.randn(2, TASKS, ROWS, OBSERVATION)
    actions, rewards = torch.rand(TASKS, ROWS, ACTION), torch.randn(TASKS, ROWS)
    return Batch(observations, actions, rewards, following, torch.zeros(TASKS, ROWS))


def test_an_agent_learns_from_features_as_if_they_were_observed() -> None:
    features = Magnified()
    agent, reference = make_agent(features=features), make_agent(2 * OBSERVATION)
    for _ in range(3):
        batch = make_batch()
        agent.update(batch)
        reference.update(
            batch._replace(
                observations=features(batch.observations),
                next_observations=features(batch.next_observations),
            )
        )
    state = reference.state_dict()
    own = {name: t for name, t in agent.state_dict().items() if name != "features.scale"}
    assert own.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.items())
    for deterministic in (True, False):
        actions, expected = (
            each.act(observed, deterministic=deterministic)
            for each, observed in ((agent, batch.observations), (reference, features(batch[0])))
        )
        assert torch.equal(actions, expected)


def test_features_are_saved_once_and_restored_for_all_networks() -> None:
    agent, other = make_agent(features=Magnified()), make_agent(features=Magnified())
    agent.features.get_buffer("scale").fill_(5.0)
    assert [name for name in agent.state_dict() if "scale" in name] == ["features.scale"]
    other.load_state_dict(agent.state_dict())
    batch, noise = make_batch(), agent.draw_noise()
    for each in (agent, other):
        each.update(batch, noise)
    observations = batch.observations
    actions = [each.act(observations, deterministic=True) for each in (agent, other)]
    critics = [each.target_critic(observations, batch.actions) for each in (agent, other)]
    other.features.get_buffer("scale").fill_(1.0)
    assert torch.equal(*actions)
    assert torch.equal(*critics)
    assert not torch.equal(other.act(observations, deterministic=True), actions[0])
    assert not torch.equal(other.target_critic(observations, batch.actions), critics[0])


def test_an_exported_policy_takes_observations() -> None:
    agent = make_agent(features=Magnified())
    policy = RowPolicy(agent.average_actor, TASKS).requires_grad_(False)
    rows, tasks = torch.randn(5, OBSERVATION), torch.arange(5) % TASKS
    exported = torch.export.export(policy.eval(), (rows, tasks)).module()
    assert_close(exported(-rows, tasks), policy(-rows, tasks))


def steps(number: int, seed: int = 0) -> list[Transitions]:
    """Transitions of two copies of each task, some of them not to be learnt from."""
    rng = np.random.default_rng(seed)
    shape = (TASKS, 2)
    scale = np.array([1.0, 1e-2, 1e4, 0.0])
    return [
        Transitions(
            (rng.normal(size=(*shape, OBSERVATION)) * scale + 5).astype(np.float32),
            np.zeros((*shape, ACTION), np.float32),
            np.zeros(shape, np.float32),
            np.zeros((*shape, OBSERVATION), np.float32),
            np.zeros(shape, np.bool_),
            np.zeros(shape, np.bool_),
            rng.random(shape) < 0.7,
        )
        for _ in range(number)
    ]


def test_running_features_have_the_moments_of_what_was_seen_of_each_task() -> None:
    features, seen = RunningObservations(OBSERVATION, TASKS), steps(40)
    for each in seen:
        features.observe(each)
    for task in range(TASKS):
        valid = np.concatenate([each.observations[task][each.valid[task]] for each in seen])
        rows = torch.from_numpy(valid).expand(TASKS, -1, -1)
        normal = features(rows)[task].double()
        assert_close(normal[:, :3].mean(0), torch.zeros(3).double(), atol=1e-2, rtol=0)
        assert_close(normal[:, :3].std(0, correction=0), torch.ones(3).double(), atol=1e-2, rtol=0)
        assert not normal[:, 3].any(), "what never changed"
    far = torch.full((TASKS, 1, OBSERVATION), 1e9)
    assert (features(far) == 10).all()


def test_running_features_go_on_where_they_were() -> None:
    seen = steps(20)
    whole, part = (RunningObservations(OBSERVATION, TASKS) for _ in range(2))
    for each in seen[:9]:
        whole.observe(each)
    part.restore({name: torch.from_numpy(value) for name, value in whole.state().items()})
    for each in seen[9:]:
        whole.observe(each)
        part.observe(each)
    assert whole.mean.equal(part.mean)
    assert whole.scale.equal(part.scale)


def test_running_features_are_part_of_an_agent_and_of_its_copies() -> None:
    features = RunningObservations(OBSERVATION, TASKS)
    agent = make_agent(features=features)
    before = agent.act(torch.ones(TASKS, ROWS, OBSERVATION), deterministic=True)
    for each in steps(3):
        features.observe(each)
    after = agent.act(torch.ones(TASKS, ROWS, OBSERVATION), deterministic=True)
    assert not before.equal(after)
    other = make_agent(features=RunningObservations(OBSERVATION, TASKS))
    other.load_state_dict(agent.state_dict())
    assert other.act(torch.ones(TASKS, ROWS, OBSERVATION), deterministic=True).equal(after)
