"""Agents from configurations and checkpoints, and the seeds and devices they get."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.methods.equal import Equal
from mtrl_ntk.balancing.methods.ntkmtl import NTKMTL
from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.agents import load_actor, make_agent, policy_of
from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.checkpoints.checkpoint import CheckpointError, save_checkpoint
from mtrl_ntk.experiment.config import RunConfig, defaults, from_dict
from mtrl_ntk.experiment.devices import resolve_device, stream_seed
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM
from mtrl_ntk.rl.networks import NETWORK_KINDS
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.types import Batch
from tests.rl.network_kinds import MORE_KINDS

TASKS, COPIES = 2, 3
CPU = torch.device("cpu")
CONFIG = RunConfig(sac=SacConfig(batch_size=4, width=8, depth=1))


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[MultiTaskSAC, Path]:
    """An agent of another seed than ``CONFIG``'s, and the folder that it is saved in."""
    agent = make_agent(replace(CONFIG, seed=99), TASKS, CPU)
    save_checkpoint(tmp_path / "checkpoint", agent.state_dict(), {})
    return agent, tmp_path / "checkpoint"


def test_stream_seeds_never_change() -> None:
    # Another number would change the results of every seed.
    assert stream_seed(1, "agent") == 4850628367261299089
    assert stream_seed(1, "replay") == 97989340618881797


def test_every_stream_of_every_run_has_its_own_seed() -> None:
    names = ("agent", "replay", "a", "tnega", "agent ")
    seeds = [stream_seed(seed, name) for seed, name in product(range(100), names)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**60


def test_the_device_is_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    assert resolve_device("cpu") == CPU
    with pytest.raises(UserError, match="use --device cpu"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda").type == "cuda"
    assert resolve_device("cpu") == CPU


def test_an_agent_is_made_as_configured() -> None:
    config = replace(CONFIG, method="ntkmtl", weighting=NTKMTL.config_class(num_minibatches=2))
    agent = make_agent(config, TASKS, CPU)
    for balancer in (agent.critic_balancer, agent.actor_balancer):
        assert isinstance(balancer.weighting, NTKMTL)
        assert balancer.weighting.num_minibatches == 2
    equal = make_agent(replace(CONFIG, method="equal", weighting=None), TASKS, CPU)
    assert isinstance(equal.actor_balancer.weighting, Equal)
    assert equal.config == CONFIG.sac


def test_the_seed_alone_decides_the_initial_weights() -> None:
    first, again, other = (
        make_agent(replace(CONFIG, seed=seed), TASKS, CPU).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    weights = [name for name in first if name.endswith(".weight")]
    assert weights
    assert not any(torch.equal(first[name], other[name]) for name in weights)


def test_a_loaded_policy_is_the_one_that_was_saved(checkpoint: tuple[MultiTaskSAC, Path]) -> None:
    saved, folder = checkpoint
    before = torch.get_rng_state()
    loaded = load_actor(CONFIG, load_newest(folder), TASKS, CPU, CONFIG.env.task_suite)
    assert torch.equal(before, torch.get_rng_state())
    untrained = make_agent(CONFIG, TASKS, CPU).actor
    observations = torch.randn(TASKS, COPIES, OBSERVATION_DIM)
    actions = [policy_of(actor)(observations.numpy()) for actor in (loaded, untrained)]
    evaluated = saved.act(observations, deterministic=True).numpy()
    np.testing.assert_array_equal(actions[0], evaluated)
    assert (actions[1] != evaluated).any()


@pytest.mark.parametrize(
    ("sac", "num_tasks"),
    [
        (replace(CONFIG.sac, width=9), TASKS),
        (replace(CONFIG.sac, depth=2), TASKS),
        (replace(CONFIG.sac, policy_tau=0.5), TASKS),
        (replace(CONFIG.sac, critic_layer_norm=not CONFIG.sac.critic_layer_norm), TASKS),
        (replace(CONFIG.sac, critic="categorical"), TASKS),
        (CONFIG.sac, TASKS + 1),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(
    checkpoint: tuple[MultiTaskSAC, Path], sac: SacConfig, num_tasks: int
) -> None:
    suite, found = CONFIG.env.task_suite, load_newest(checkpoint[1])
    with pytest.raises(CheckpointError, match="is of another configuration"):
        load_actor(replace(CONFIG, sac=sac), found, num_tasks, CPU, suite)


def test_a_policy_maps_arrays_to_actions() -> None:
    agent = make_agent(CONFIG, TASKS, CPU)
    shape = (TASKS, COPIES, OBSERVATION_DIM)
    observations = np.random.default_rng(0).standard_normal(shape, np.float32)
    policy = policy_of(agent.average_actor)
    actions = policy(observations)
    assert actions.shape == (TASKS, COPIES, ACTION_DIM)
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, policy(observations))
    np.testing.assert_array_equal(
        actions, agent.actor.mode(torch.from_numpy(observations)).detach()
    )


@pytest.mark.parametrize("kind", MORE_KINDS)
def test_a_new_kind_of_network_is_a_row_of_the_table(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"method": "ntkmtl", "network": kind, "batch_size": 4, "width": 8, "depth": 2}
    with pytest.raises(ConfigError, match="it must be one of shared, task_embedding,"):
        from_dict(settings)
    monkeypatch.setitem(NETWORK_KINDS, kind, MORE_KINDS[kind])
    agent = make_agent(from_dict(settings), TASKS, CPU)
    agent.join_critics()
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    observations = torch.randn(TASKS, 4, OBSERVATION_DIM)
    actions, rewards = torch.rand(TASKS, 4, ACTION_DIM), torch.randn(TASKS, 4)
    batch = Batch(observations, actions, rewards, -observations, torch.zeros(TASKS, 4))
    metrics = agent.update(batch)
    assert not metrics["skipped/critic"].any()
    assert not metrics["skipped/actor"].any()
    after = agent.state_dict()
    same = [name for name, tensor in before.items() if torch.equal(tensor, after[name])]
    assert [name for name in same if name.startswith(("actor.", "critic."))] == []


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_need_positive_losses_leave_the_actor_equal(method: str) -> None:
    agent = make_agent(defaults(method), 2, torch.device("cpu"))
    actor_method = "equal" if METHODS[method].positive_losses else method
    assert type(agent.critic_balancer.weighting) is METHODS[method]
    assert type(agent.actor_balancer.weighting) is METHODS[actor_method]
    for balancer in (agent.critic_balancer, agent.actor_balancer):
        num_parameters = sum(parameter.numel() for parameter in balancer.shared)
        assert balancer.weighting.num_parameters in (num_parameters, 0)


@pytest.mark.parametrize("part", ["critic", "actor"])
def test_one_of_the_networks_can_be_balanced_alone(part: str) -> None:
    agent = make_agent(from_dict({"method": "ntkmtl", "balance": part}), 2, torch.device("cpu"))
    methods = {
        "critic": type(agent.critic_balancer.weighting),
        "actor": type(agent.actor_balancer.weighting),
    }
    assert methods.pop(part) is METHODS["ntkmtl"]
    assert [*methods.values()] == [METHODS["equal"]]
