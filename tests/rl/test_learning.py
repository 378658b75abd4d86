"""The agent learns: a task per axis of a bandit that is solved in seconds."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.types import Batch
from tests.rl.agents import make_weighting

TASKS, OBSERVATION, ACTION = 3, 4, 2
REWARD_SCALES = torch.tensor([0.5, 1.0, 2.0])


def best_actions(observations: Tensor) -> Tensor:
    """What to do: each task wants other signs of the first observations."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])
    return 0.8 * torch.tanh(observations[..., :ACTION]) * signs[:, None]


def rewards(observations: Tensor, actions: Tensor) -> Tensor:
    """Negative squared distance to the best action, at the task's scale, ``[tasks, batch]``."""
    distances = (actions - best_actions(observations)).square().sum(2)
    return -REWARD_SCALES[:, None] * distances


def make_batch(batch_size: int) -> Batch:
    """Random actions in random states; every episode ends after one step."""
    observations = torch.randn(TASKS, batch_size, OBSERVATION)
    actions = torch.rand(TASKS, batch_size, ACTION) * 2 - 1
    return Batch(
        observations,
        actions,
        rewards(observations, actions),
        torch.randn(TASKS, batch_size, OBSERVATION),
        torch.ones(TASKS, batch_size),
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ntkmtl", "ntkmtl_sr", "pcgrad"])
def test_every_task_is_learnt(method: str) -> None:
    config = SacConfig(
        batch_size=32,
        width=32,
        depth=2,
        network="multi_head" if METHODS[method].needs_representation else "shared",
        learning_rate=3e-3,
        initial_temperature=1e-2,
        temperature_learning_rate=3e-3,
    )
    agent = MultiTaskSAC(
        TASKS,
        OBSERVATION,
        ACTION,
        config=config,
        make_weighting=partial(make_weighting, method),
        seed=0,
    )
    observations = torch.randn(TASKS, 500, OBSERVATION)
    untrained = rewards(observations, agent.act(observations, deterministic=True)).mean(1)
    for _ in range(800):
        agent.update(make_batch(config.batch_size))
    trained = rewards(observations, agent.act(observations, deterministic=True)).mean(1)
    assert (trained > 0.25 * untrained).all(), (untrained, trained)
