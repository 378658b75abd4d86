"""Features of Meta-World's observations mean what they say."""

from __future__ import annotations

import numpy as np
import torch
from torch.testing import assert_close

from mtrl_ntk.rl.envs import EpisodeRules, TaskEnv
from mtrl_ntk.rl.features import MappedObservations
from mtrl_ntk.rl.suites.metaworld.features import CENTRED, RELATIVE, UNMAGNIFIED
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD


def features(observation: np.ndarray) -> torch.Tensor:
    rows = torch.from_numpy(observation.astype(np.float32))[None, None]
    mapped: torch.Tensor = MappedObservations(RELATIVE)(rows)
    return mapped[0, 0]


def test_features_are_centred_relative_and_magnified() -> None:
    observation = np.zeros(39)
    hand, thing, goal = (
        np.array([0.1, 0.5, 0.2]),
        np.array([0.1, 0.52, 0.15]),
        np.array([0, 0.8, 0]),
    )
    observation[:3], observation[3], observation[4:7], observation[36:] = hand, 0.9, thing, goal
    observation[7:18] = np.arange(11) / 10
    observation[18:21], observation[21], observation[22:25] = hand - 0.01, 0.8, thing
    centre, tool = np.array([0, 0.6, 0.2]), hand - [0, 0, 0.045]
    expected = np.concatenate(
        [
            *(5 * (hand - centre), [0.8], 5 * (thing - centre), observation[7:11]),
            *(2 * observation[11:14], observation[14:18], 5 * (goal - centre)),
            *(10 * (thing - hand), 5 * (goal - thing), 5 * (goal - hand)),
            *([1, 1, 1], [2], [0, 0, 0]),
            *(np.tanh(40 * (thing - tool)), np.tanh(10 * (thing - tool))),
            *(np.tanh(20 * (goal - thing)), np.tanh(20 * (goal - tool))),
        ]
    )
    assert_close(features(observation), torch.from_numpy(expected).float(), atol=2e-5, rtol=1e-5)


def test_the_unmagnified_are_relative_without_what_is_squashed() -> None:
    linear = RELATIVE.num_linear
    assert UNMAGNIFIED.num_linear == UNMAGNIFIED.dim == linear < RELATIVE.dim
    np.testing.assert_array_equal(UNMAGNIFIED.weight, RELATIVE.weight[:linear])
    np.testing.assert_array_equal(UNMAGNIFIED.bias, RELATIVE.bias[:linear])


def test_the_centred_are_the_observation_on_another_scale() -> None:
    sources = CENTRED.weight.argmax(1)
    assert sorted(sources) == list(range(39))
    assert (np.count_nonzero(CENTRED.weight, 1) == 1).all()
    scale, shift = np.zeros(39), np.zeros(39)
    scale[sources], shift[sources] = CENTRED.weight.max(1), CENTRED.bias
    np.testing.assert_array_equal(scale[:18], scale[18:36])
    np.testing.assert_array_equal(shift[:18], shift[18:36])
    np.testing.assert_array_equal(scale[36:], scale[:3])
    np.testing.assert_allclose(shift[:3], [0, -3, -1], rtol=1e-6)
    assert scale.min() == 1


def test_a_millimetre_at_the_tool_is_seen() -> None:
    observation = np.zeros(39)
    observation[4:7] = [0, 0, -0.045]
    nearer = observation.copy()
    nearer[4] += 0.001
    assert (features(nearer) - features(observation)).abs().max() > 0.03


def test_entries_are_those_of_a_real_observation() -> None:
    env = TaskEnv("push-v3", EpisodeRules(), seed=0, suite=METAWORLD)
    observation = env.reset()
    step = env.step(np.array([1, 0, 0, 1], np.float32))
    env.close()
    hand, before = step.observation[:3], step.observation[18:21]
    np.testing.assert_allclose(before, observation[:3], atol=1e-6)
    velocity = features(step.observation)[30:33]
    assert_close(velocity, torch.from_numpy(100 * (hand - before)).float(), atol=1e-3, rtol=1e-3)
    assert velocity[0] > 0
