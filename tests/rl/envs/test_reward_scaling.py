"""Reward scaling: the published rule, one statistic per environment, and a state that resumes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs.reward_scaling import RunningVarianceScaler, make_reward_scaler

Rewards = NDArray[np.float32]


def random_rewards(steps: int, scales: list[float], shift: float = 0.0, seed: int = 0) -> Rewards:
    noise = np.random.default_rng(seed).standard_normal((steps, len(scales)))
    return ((noise + shift) * scales).astype(np.float32)


def scale_all(scaler: RunningVarianceScaler, rewards: Rewards) -> Rewards:
    valid = np.ones(rewards.shape[1], np.bool_)
    return np.stack([scaler.scale(each, valid) for each in rewards])


def published_rule(rewards: list[float]) -> list[float]:
    """One environment's rewards by the rule of mtenv, number by number."""
    mean, variance, scaled = 0.0, 1.0, []
    for reward in rewards:
        mean = (1 - 0.001) * mean + 0.001 * reward
        variance = (1 - 0.001) * variance + 0.001 * (reward - mean) * (reward - mean)
        scaled.append(reward / (math.sqrt(variance) + 1e-8))
    return scaled


def test_first_reward_by_hand() -> None:
    scaler = RunningVarianceScaler(1)
    scaled = scaler.scale(np.array([10.0], np.float32), np.array([True]))
    assert scaler.mean[0] == pytest.approx(0.01)
    assert scaler.variance[0] == pytest.approx(0.999 + 0.001 * 9.99**2)
    assert scaled[0] == pytest.approx(10 / math.sqrt(1.0988001), rel=1e-6)
    assert scaled.dtype == np.float32


def test_follows_the_published_rule_in_every_environment() -> None:
    rewards = random_rewards(300, [0.1, 1.0, 2000.0], shift=0.5)
    scaled = scale_all(RunningVarianceScaler(3), rewards)
    for column in range(3):
        expected = published_rule(rewards[:, column].tolist())
        np.testing.assert_allclose(scaled[:, column], expected, rtol=1e-6)


def test_rewards_of_any_scale_get_unit_variance_and_keep_their_shift() -> None:
    rewards = random_rewards(20_000, [0.1, 1000.0], shift=3.0)
    scaled = scale_all(RunningVarianceScaler(2), rewards)[10_000:]
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, rtol=0.05)
    np.testing.assert_allclose(scaled.mean(axis=0), 3.0, rtol=0.05)


def test_an_environment_does_not_depend_on_those_beside_it() -> None:
    rewards = random_rewards(50, [1.0, 30.0, 0.2, 5.0])
    together = scale_all(RunningVarianceScaler(4), rewards)
    for column in range(4):
        alone = scale_all(RunningVarianceScaler(1), rewards[:, [column]])
        np.testing.assert_array_equal(together[:, [column]], alone)


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0, 1e30])
def test_invalid_rewards_are_zero_and_leave_the_moments_alone(broken: float) -> None:
    scaler, other = RunningVarianceScaler(2), RunningVarianceScaler(2)
    for each in (scaler, other):
        scale_all(each, random_rewards(5, [1.0, 1.0], shift=2.0))
    before = scaler.mean[1], scaler.variance[1]
    scaled = scaler.scale(np.array([5.0, broken], np.float32), np.array([True, False]))
    expected = other.scale(np.array([5.0, 7.0], np.float32), np.array([True, True]))
    assert scaled.tolist() == [expected[0], 0.0]
    assert (scaler.mean[1], scaler.variance[1]) == before
    assert (scaler.mean[0], scaler.variance[0]) == (other.mean[0], other.variance[0])


def test_rewards_that_never_change_stay_finite() -> None:
    scaler = RunningVarianceScaler(1)
    scaler.mean, scaler.variance = np.array([0.5]), np.array([0.0])
    assert np.isfinite(scaler.scale(np.array([0.5], np.float32), np.array([True]))).all()


def test_copied_moments_resume_exactly() -> None:
    rewards = random_rewards(40, [3.0, 0.1])
    whole, resumed = RunningVarianceScaler(2), RunningVarianceScaler(2)
    scale_all(whole, rewards[:25])
    state = whole.mean, whole.variance
    expected = scale_all(whole, rewards[25:])
    # Kept without a copy: later steps have not written to it.
    resumed.mean, resumed.variance = state
    np.testing.assert_array_equal(scale_all(resumed, rewards[25:]), expected)
    anew = scale_all(RunningVarianceScaler(2), rewards[25:])
    assert (anew != expected).any()


def test_restart_forgets() -> None:
    rewards = random_rewards(20, [3.0])
    scaler = RunningVarianceScaler(1)
    first = scale_all(scaler, rewards)
    scaler.restart()
    np.testing.assert_array_equal(scale_all(scaler, rewards), first)


def test_settings() -> None:
    assert make_reward_scaler("none", 3) is None
    scaler = make_reward_scaler("running_variance", 3)
    assert scaler is not None
    assert scaler.mean.shape == scaler.variance.shape == (3,)
    unknown: Any = "std"
    with pytest.raises(ConfigError, match="'std'; possible: none, running_variance") as error:
        make_reward_scaler(unknown, 3)
    assert "\n" not in str(error.value)
