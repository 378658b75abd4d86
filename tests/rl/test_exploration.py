"""Exploration: random actions, then the policy's, from the same streams as ever."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box

from mtrl_ntk.rl.exploration import Exploration, HeldNoise, make_exploration
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from tests.rl.agents import TASKS, make_weighting

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


def held(longest: int) -> HeldNoise:
    return HeldNoise(make_agent(), make_space(), warmstart_steps=0, longest=longest)


def test_what_is_held_goes_on_where_it_was() -> None:
    exploration, other = held(8), held(8)
    observations = observe()
    for step in range(1, 6):
        exploration.actions(step, observations)
    other.restore(exploration.state())
    other.agent.generator.set_state(exploration.agent.generator.get_state())
    for step in range(6, 20):
        first, second = (each.actions(step, observations) for each in (exploration, other))
        np.testing.assert_array_equal(first, second)


def test_a_checkpoint_that_knows_no_held_noise_starts_anew() -> None:
    exploration, other = held(8), held(8)
    other.restore({})
    observations = observe()
    first, second = (each.actions(1, observations) for each in (exploration, other))
    np.testing.assert_array_equal(first, second)


def test_noise_is_held_as_long_as_the_law_says() -> None:
    exploration, longest = held(4), 4
    noise = torch.stack([exploration.noise(COPIES) for _ in range(6_000)])
    changed = (noise[1:] != noise[:-1]).any(-1).flatten(1).T  # [environments, steps]
    assert not torch.equal(changed[0], changed[1])
    lengths = torch.cat([row.nonzero().diff(dim=0).flatten() for row in changed])
    shares = torch.bincount(lengths, minlength=longest + 1)[1:] / len(lengths)
    rest = 1 - 6 / np.pi**2 * (1 + 1 / 4 + 1 / 9)
    expected = torch.tensor([6 / np.pi**2 / k**2 for k in (1, 2, 3)] + [rest], dtype=torch.float32)
    assert lengths.max() == longest
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(noise.std(), torch.tensor(1.0), atol=0.03, rtol=0)


def test_a_time_of_one_holds_nothing() -> None:
    agent, space = make_agent(), make_space()
    assert type(make_exploration(agent, space, 0)) is Exploration
    assert type(make_exploration(agent, space, 0, hold_noise=2)) is HeldNoise
