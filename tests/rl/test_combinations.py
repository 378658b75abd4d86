"""Every method, and each statistic with every network, on transitions of the real MT10."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch

from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM, EnvConfig, make_envs
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from tests.rl.agents import COVERING, make_weighting

TASKS, STEPS, UPDATES = 10, 60, 20


@pytest.fixture(scope="module")
def replay() -> MultiTaskReplayBuffer:
    """What random actions did in all ten tasks."""
    buffer = MultiTaskReplayBuffer(
        TASKS,
        STEPS,
        OBSERVATION_DIM,
        ACTION_DIM,
        device=torch.device("cpu"),
        generator=torch.Generator(),
    )
    with closing(make_envs(EnvConfig(workers=0), seed=0)) as envs:
        observations, _ = envs.reset()
        for _ in range(STEPS):
            actions = envs.action_space.sample()
            following, rewards, terminations, _, infos = envs.step(actions)
            rows = (observations, actions, rewards, following, terminations, infos["valid"])
            buffer.add(*(np.expand_dims(values, 1) for values in rows))
            observations = following
    return buffer


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network"), COVERING)
def test_all_numbers_stay_finite(method: str, network: str, replay: MultiTaskReplayBuffer) -> None:
    config = SacConfig(batch_size=16, width=64, depth=2, network=network, learning_rate=1e-3)
    agent = MultiTaskSAC(
        TASKS,
        OBSERVATION_DIM,
        ACTION_DIM,
        config=config,
        make_weighting=partial(make_weighting, method, num_tasks=TASKS),
        seed=0,
    )
    for _ in range(UPDATES):
        metrics = agent.update(replay.sample(config.batch_size), diagnose=True)
        assert [name for name, values in metrics.items() if not values.isfinite().all()] == []
        assert not metrics["skipped/critic"].any()
        assert not metrics["skipped/actor"].any()
    assert all(tensor.isfinite().all() for tensor in agent.state_dict().values())
