"""Exploration: random actions, then the policy's, from the same streams as ever."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium.spaces import Box

from mtrl_ntk.experiment.checkpoints.nested_state import merge, split
from mtrl_ntk.rl.exploration import Exploration, EzGreedy, HeldNoise, make_exploration
from mtrl_ntk.rl.host_graph import HostRecorder
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


EPSILON, LONGEST = 0.2, 4


def detours(seed: int = 0) -> EzGreedy:
    return EzGreedy(TASKS, EPSILON, LONGEST, torch.Generator().manual_seed(seed))


def ended(successes: dict[int, float]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Episodes that ended, by environment: whether each succeeded."""
    mask, values = np.zeros(TASKS * COPIES, np.bool_), np.zeros(TASKS * COPIES, np.float32)
    for index, value in successes.items():
        mask[index], values[index] = True, value
    return mask, values


def replaced(detours: EzGreedy, steps: int, copies: int = COPIES) -> torch.Tensor:
    """Actions of some steps where the policy's would be 2, ``[steps, tasks, copies, action]``."""
    policy = torch.full((TASKS, copies, ACTION), 2.0)
    return torch.stack([detours.replace(policy) for _ in range(steps)])


def test_the_first_copy_keeps_the_policy_s_actions_and_a_single_one_does_not() -> None:
    actions = replaced(detours(), 500)
    assert (actions[:, :, 0] == 2).all()
    others = actions[:, :, 1:]
    assert ((others == 2).all(-1) | (others.abs() <= 1).all(-1)).all()
    assert (replaced(detours(), 500, copies=1) != 2).any()


def test_detours_are_as_frequent_and_as_long_as_the_law_says() -> None:
    actions = replaced(detours(), 5_000)[:, :, 1:].flatten(1, 2)
    changed = (actions[1:] != actions[:-1]).any(-1)
    new = torch.cat([torch.ones_like(changed[:1]), changed])
    is_detour = actions[..., 0] != 2
    starts = new & is_detour
    free_to_set_out = ~is_detour | starts
    chance = starts.sum() / free_to_set_out.sum()
    torch.testing.assert_close(chance, torch.tensor(EPSILON), atol=0.01, rtol=0)
    mean = 6 / np.pi**2 * (1 + 1 / 2 + 1 / 3) + LONGEST * (1 - 6 / np.pi**2 * (1 + 1 / 4 + 1 / 9))
    length = is_detour.sum() / starts.sum()
    torch.testing.assert_close(length, torch.tensor(mean).float(), atol=0.05, rtol=0)
    torch.testing.assert_close(actions[is_detour].std(), torch.tensor(3**-0.5), atol=0.02, rtol=0)


def test_tasks_that_succeed_are_left_alone_until_they_fail_again() -> None:
    explorer = detours()
    for _ in range(200):
        explorer.observe(*ended({0: 1.0}))
    rates = explorer.state()["successes"]
    np.testing.assert_allclose(rates, [1.0] + [0.0] * (TASKS - 1), atol=1e-6)
    actions = replaced(explorer, 200)
    assert (actions[50:, 0] == 2).all()
    assert (actions[:, 1:, 1:] != 2).any()
    for _ in range(10):
        explorer.observe(*ended({COPIES - 1: 0.0}))
    np.testing.assert_allclose(explorer.state()["successes"][0], 0.9**10, rtol=1e-5)
    assert (replaced(explorer, 200)[:, 0, 1:] != 2).any()


def test_tasks_without_a_success_explore_as_at_first() -> None:
    explorer = detours()
    explorer.observe(*ended(dict.fromkeys(range(TASKS * COPIES), float("nan"))))
    np.testing.assert_array_equal(explorer.state()["successes"], 0)


@pytest.mark.parametrize("hold_noise", [1, 6])
def test_detours_go_on_where_they_were(hold_noise: int) -> None:
    def make() -> Exploration:
        return make_exploration(
            make_agent(), make_space(), 0, hold_noise=hold_noise, ez_greedy=0.5, ez_longest=9
        )

    exploration, other, observations = make(), make(), observe()
    mask, successes = ended({0: 1.0, 4: 0.0})
    exploration.observe({"_final_info": mask, "final_info": {"success": successes}})
    for step in range(1, 8):
        exploration.actions(step, observations)
    other.restore(merged(exploration.state()))
    other.agent.generator.set_state(exploration.agent.generator.get_state())
    for step in range(8, 30):
        exploration.observe({})
        first, second = (each.actions(step, observations) for each in (exploration, other))
        np.testing.assert_array_equal(first, second)


def merged(state: dict[str, Any]) -> dict[str, Any]:
    """A state as a checkpoint gives it back."""
    found: dict[str, Any] = merge(*split(state))
    return found


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
    noise = torch.stack([exploration.noise(COPIES).clone() for _ in range(6_000)])
    changed = (noise[1:] != noise[:-1]).any(-1).flatten(1).T  # [environments, steps]
    assert not torch.equal(changed[0], changed[1])
    lengths = torch.cat([row.nonzero().diff(dim=0).flatten() for row in changed])
    shares = torch.bincount(lengths, minlength=longest + 1)[1:] / len(lengths)
    rest = 1 - 6 / np.pi**2 * (1 + 1 / 4 + 1 / 9)
    expected = torch.tensor([6 / np.pi**2 / k**2 for k in (1, 2, 3)] + [rest], dtype=torch.float32)
    assert lengths.max() == longest
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(noise.std(), torch.tensor(1.0), atol=0.03, rtol=0)


@pytest.mark.parametrize("hold_noise", [1, 6])
@pytest.mark.parametrize("ez_greedy", [0.0, 0.5])
def test_recorded_actions_are_those_that_are_chosen_one_by_one(
    hold_noise: int, ez_greedy: float
) -> None:
    recorder = HostRecorder()

    def make(recorder: HostRecorder | None) -> Exploration:
        return make_exploration(
            make_agent(),
            make_space(),
            2,
            hold_noise=hold_noise,
            ez_greedy=ez_greedy,
            recorder=recorder,
        )

    plain, recorded = make(None), make(recorder)
    kept = []
    for step in range(1, 40):
        observations = observe()
        expected = plain.actions(step, observations)
        kept.append((expected.copy(), recorded.actions(step, observations)))
        if step % 7 == 0:
            mask, successes = ended({0: 1.0, 4: float(step % 2)})
            for each in (plain, recorded):
                each.observe({"_final_info": mask, "final_info": {"success": successes}})
    for expected, actions in kept:
        np.testing.assert_array_equal(actions, expected)
    assert [replay.repeats for replay in recorder.replays] == [True]


def test_a_time_of_one_holds_nothing() -> None:
    agent, space = make_agent(), make_space()
    assert type(make_exploration(agent, space, 0)) is Exploration
    assert type(make_exploration(agent, space, 0, hold_noise=2)) is HeldNoise
