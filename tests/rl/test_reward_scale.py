"""Rewards are scaled when they are drawn, by factors that may follow what happens."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from mtrl_ntk.rl.reward_scale import ReturnNormalizer, RewardScale
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.types import Batch, Transitions
from tests.rl.agents import TASKS, make_weighting

COPIES, ROWS, OBSERVATION, ACTION = 2, 6, 4, 2


def make_agent(reward_scale: RewardScale | None = None) -> MultiTaskSAC:
    return MultiTaskSAC(
        TASKS,
        OBSERVATION,
        ACTION,
        config=SacConfig(batch_size=ROWS, width=8, depth=1, reward_scale=0.1),
        make_weighting=partial(make_weighting, "equal"),
        seed=0,
        reward_scale=reward_scale,
    )


def step(rewards: list[list[float]], *, ended: bool = False) -> Transitions:
    shape = (TASKS, COPIES)
    return Transitions(
        np.zeros((*shape, OBSERVATION), np.float32),
        np.zeros((*shape, ACTION), np.float32),
        np.array(rewards, np.float32),
        np.zeros((*shape, OBSERVATION), np.float32),
        np.zeros(shape, np.bool_),
        np.full(shape, ended),
        np.ones(shape, np.bool_),
    )


def test_a_constant_scales_as_the_number_does() -> None:
    rewards = torch.randn(TASKS, 1000)
    for factor in (0.1, 0.3, 1 / 3, 7.7):
        scale = RewardScale(TASKS, factor)
        assert torch.equal(scale.float()(rewards), factor * rewards)
        assert torch.equal(RewardScale(TASKS, factor)(rewards.double()), factor * rewards.double())


def test_the_largest_return_of_a_task_becomes_the_number() -> None:
    scale = ReturnNormalizer(TASKS, 10, 0.9)
    agent, plain = make_agent(scale), make_agent(RewardScale(TASKS))
    scale.observe(step([[1, 0], [20, 2], [-5, 5]]))
    scale.observe(step([[1, 0], [-9, 1], [0, 4]], ended=True))
    scale.observe(step([[1, 0], [0, 0], [0, 1]]))
    factors = torch.tensor([[10 / 1.9], [10 / 20], [10 / 8.5]])
    assert torch.allclose(scale.factors, factors)
    observations, following = torch.randn(2, TASKS, ROWS, OBSERVATION)
    actions, rewards = torch.rand(TASKS, ROWS, ACTION), torch.randn(TASKS, ROWS)
    batch = Batch(observations, actions, rewards, following, torch.zeros(TASKS, ROWS))
    noise = agent.draw_noise()
    agent.update(batch, noise)
    plain.update(batch._replace(rewards=scale.factors * rewards), noise)
    state = plain.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in agent.state_dict().items())


def test_negative_rewards_are_scaled_by_their_size() -> None:
    scale = ReturnNormalizer(TASKS, 10, 0.9)
    scale.observe(step([[-4, -1], [0, 0], [-2, 3]]))
    assert scale.factors.flatten().tolist() == pytest.approx([2.5, 1.0, 10 / 3])


def test_a_first_success_shrinks_what_was_learnt_at_once_and_for_good() -> None:
    scale = ReturnNormalizer(1, 10, 0.5)
    for _ in range(50):
        scale.observe(one_task(0.375))
    assert scale.factors.item() == pytest.approx(10 / 0.75)
    scale.observe(one_task(10.0 - 0.375))
    assert scale.factors.item() == pytest.approx(1.0)
    scale.observe(one_task(0.0, valid=False))
    scale.observe(one_task(np.nan, valid=False))
    for _ in range(50):
        scale.observe(one_task(0.375))
    assert scale.factors.item() == pytest.approx(1.0)


def test_a_normalizer_goes_on_where_it_was() -> None:
    scale, other = ReturnNormalizer(TASKS, 10, 0.9), ReturnNormalizer(TASKS, 10, 0.9)
    scale.observe(step([[1, 2], [3, 4], [5, 6]]))
    other.restore({name: torch.from_numpy(part) for name, part in scale.state().items()})
    assert torch.equal(other.factors, scale.factors)
    for each in (scale, other):
        each.observe(step([[6, 5], [4, 3], [2, 1]]))
    assert torch.equal(other.factors, scale.factors)


def one_task(reward: float, *, valid: bool = True) -> Transitions:
    of_all = step([[reward, reward]] * TASKS)._replace(valid=np.full((TASKS, COPIES), valid))
    return Transitions._make(part[:1, :1] for part in of_all)
