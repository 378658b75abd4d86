"""Exploration: random actions, then the policy's, from the same streams as ever."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box

from mtrl_ntk.rl.exploration import Exploration
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from tests.rl.agents import TASKS, make_weighting
from tests.rl.parts import HeldNoise

COPIES, OBSERVATION, ACTION, WARMSTART = 3, 5, 2, 4


def make_agent() -> MultiTaskSAC:
    return MultiTaskSAC(
        TASKS,
        OBSERVATION,
        ACTION,
        config=SacConfig(width=8, depth=1),
        make_weighting=partial(make_weighting, "equal"),
        seed=0,
    )


def make_space() -> Box:
    space = Box(-1.0, 1.0, (TASKS * COPIES, ACTION), np.float32)
    space.seed(5)
    return space


def observe() -> npt.NDArray[np.float32]:
    return torch.randn(TASKS, COPIES, OBSERVATION).numpy()


def test_actions_are_random_at_first_then_the_policy_s() -> None:
    exploration = Exploration(make_agent(), make_space(), WARMSTART)
    agent, space = make_agent(), make_space()
    for step in range(1, WARMSTART + 4):
        observations = observe()
        if step <= WARMSTART:
            expected = space.sample()
        else:
            expected = agent.act(torch.from_numpy(observations)).flatten(0, 1).numpy()
        np.testing.assert_array_equal(exploration.actions(step, observations), expected)
    streams = [each.generator.get_state() for each in (exploration.agent, agent)]
    assert torch.equal(*streams)


def test_other_noise_is_one_subclass_that_keeps_its_state() -> None:
    exploration = HeldNoise(make_agent(), make_space(), warmstart_steps=0)
    observations = observe()
    for step in range(1, 6):
        exploration.actions(step, observations)
    other = HeldNoise(make_agent(), make_space(), warmstart_steps=0)
    other.restore(exploration.state())
    other.agent.generator.set_state(exploration.agent.generator.get_state())
    for step in range(6, 12):
        first, second = (each.actions(step, observations) for each in (exploration, other))
        np.testing.assert_array_equal(first, second)


def test_held_noise_repeats_actions_where_observations_do() -> None:
    exploration, observations = HeldNoise(make_agent(), make_space(), 0), observe()
    first, second, third = (exploration.actions(step, observations) for step in (1, 2, 3))
    np.testing.assert_array_equal(first, second)
    changed = (third != second).any(1).reshape(TASKS, COPIES)
    assert changed.tolist() == [[True, False, False]] * TASKS
