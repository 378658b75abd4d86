"""What a replay is given for a step: sums of rewards against those of whole episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.transitions import NStepReturns
from mtrl_ntk.rl.types import Transitions

TASKS, COPIES, OBSERVATION, ACTION = 3, 2, 4, 2
GAMMA = 0.9


def make_replay() -> MultiTaskReplayBuffer:
    generator = torch.Generator().manual_seed(0)
    device = torch.device("cpu")
    return MultiTaskReplayBuffer(
        TASKS, 500, OBSERVATION, ACTION, device=device, generator=generator
    )


def step(seed: int) -> Transitions:
    random = np.random.default_rng(seed)
    shape = (TASKS, COPIES)
    return Transitions(
        random.normal(size=(*shape, OBSERVATION)).astype(np.float32),
        random.normal(size=(*shape, ACTION)).astype(np.float32),
        random.normal(size=shape).astype(np.float32),
        random.normal(size=(*shape, OBSERVATION)).astype(np.float32),
        random.random(shape) < 0.1,
        random.random(shape) < 0.1,
        random.random(shape) < 0.9,
    )


def contents(replay: MultiTaskReplayBuffer) -> list[list[float]]:
    rows: list[list[float]] = replay.numbered(np.zeros(TASKS, np.int64), replay.inserted).tolist()
    return rows


def sums_of(steps: list[Transitions], task: int, copy: int, num_steps: int) -> list[list[float]]:
    """The rows that a copy's steps make, worked out one by one."""
    rows: list[list[float]] = []
    for begin, first in enumerate(steps):
        if not first.valid[task, copy]:
            continue
        end, reward = begin, 0.0
        while True:
            now = steps[end]
            reward += GAMMA ** (end - begin) * float(now.rewards[task, copy])
            is_over = now.terminated[task, copy] or now.truncated[task, copy]
            if end - begin + 1 == num_steps or is_over:
                break
            if end + 1 == len(steps):
                break
            if not steps[end + 1].valid[task, copy]:
                break
            end += 1
        is_held_back = end - begin + 1 < num_steps and not is_over and end + 1 == len(steps)
        if not is_held_back:
            last = steps[end]
            code = 1.0 if last.terminated[task, copy] else float(begin - end)
            parts = (first.observations, first.actions, last.next_observations)
            here, action, following = (part[task, copy].tolist() for part in parts)
            rows.append([*here, *action, reward, *following, code])
    return rows


def test_one_step_returns_are_the_transitions_as_they_came() -> None:
    replay, expected = make_replay(), make_replay()
    returns = NStepReturns(replay)
    for number in range(5):
        transitions = step(number)
        returns.add(transitions)
        expected.add(*transitions[:5], transitions.valid)
    assert contents(replay) == contents(expected)
    assert returns.state() == {}


@pytest.mark.parametrize("num_steps", [1, 2, 3, 5])
def test_rows_are_the_sums_of_their_steps(num_steps: int) -> None:
    replay = make_replay()
    returns = NStepReturns(replay, num_steps, GAMMA)
    steps = [step(number) for number in range(60)]
    for transitions in steps:
        returns.add(transitions)
    for task in range(TASKS):
        first, last = np.zeros(TASKS, np.int64), np.zeros(TASKS, np.int64)
        last[task] = replay.inserted[task]
        found = np.array(sorted(replay.numbered(first, last).tolist()))
        rows = [row for copy in range(COPIES) for row in sums_of(steps, task, copy, num_steps)]
        np.testing.assert_allclose(found, np.array(sorted(rows)), rtol=1e-5, atol=1e-6)
        assert found[:, -1].min() == 1 - num_steps


def test_what_is_held_back_goes_on() -> None:
    replay, expected = make_replay(), make_replay()
    returns, reference = NStepReturns(replay, 3, GAMMA), NStepReturns(expected, 3, GAMMA)
    for number in range(7):
        returns.add(step(number))
    other = NStepReturns(replay, 3, GAMMA)
    other.restore({name: torch.from_numpy(part) for name, part in returns.state().items()})
    for number in range(7, 12):
        other.add(step(number))
    for number in range(12):
        reference.add(step(number))
    assert contents(replay) == contents(expected)


def test_without_a_state_it_starts_anew() -> None:
    replay, expected = make_replay(), make_replay()
    returns, reference = NStepReturns(replay, 3, GAMMA), NStepReturns(expected, 3, GAMMA)
    returns.restore({})
    for number in range(5):
        returns.add(step(number))
        reference.add(step(number))
    assert contents(replay) == contents(expected)
