"""What a replay is given for a step."""

from __future__ import annotations

import numpy as np
import torch

from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.transitions import OneStepReturns
from mtrl_ntk.rl.types import Transitions
from tests.rl.parts import LateReturns

TASKS, COPIES, OBSERVATION, ACTION = 3, 2, 4, 2


def make_replay() -> MultiTaskReplayBuffer:
    generator = torch.Generator().manual_seed(0)
    device = torch.device("cpu")
    return MultiTaskReplayBuffer(TASKS, 20, OBSERVATION, ACTION, device=device, generator=generator)


def step(seed: int) -> Transitions:
    random = np.random.default_rng(seed)
    shape = (TASKS, COPIES)
    return Transitions(
        random.normal(size=(*shape, OBSERVATION)).astype(np.float32),
        random.normal(size=(*shape, ACTION)).astype(np.float32),
        random.normal(size=shape).astype(np.float32),
        random.normal(size=(*shape, OBSERVATION)).astype(np.float32),
        random.random(shape) < 0.3,
        random.random(shape) < 0.3,
        random.random(shape) < 0.7,
    )


def contents(replay: MultiTaskReplayBuffer) -> list[list[float]]:
    rows: list[list[float]] = replay.numbered(np.zeros(TASKS, np.int64), replay.inserted).tolist()
    return rows


def test_one_step_returns_are_the_transitions_as_they_came() -> None:
    replay, expected = make_replay(), make_replay()
    returns = OneStepReturns(replay)
    for number in range(5):
        transitions = step(number)
        returns.add(transitions)
        expected.add(*transitions[:5], transitions.valid)
    assert contents(replay) == contents(expected)
    assert returns.state() == {}


def test_what_is_held_back_goes_on() -> None:
    replay, expected = make_replay(), make_replay()
    returns = LateReturns(replay)
    for number in range(3):
        returns.add(step(number))
    other = LateReturns(replay)
    other.restore({name: torch.from_numpy(part) for name, part in returns.state().items()})
    other.add(step(3))
    reference = OneStepReturns(expected)
    for number in range(3):
        reference.add(step(number))
    assert contents(replay) == contents(expected)
