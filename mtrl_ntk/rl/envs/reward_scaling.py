"""Rewards divided by a running estimate of their standard deviation.

Imports no torch, as nothing does that environments need.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mtrl_ntk.errors import ConfigError

RewardNormalization = Literal["none", "running_variance"]

RATE = 0.001
"""Share of a new reward in the running moments."""
EPSILON = 1e-8
"""Keeps the division finite where rewards have long been constant."""


class RunningVarianceScaler:
    r"""Divides every environment's rewards by the running standard deviation of that environment.

    Mean :math:`m` and variance :math:`v` of an environment start at 0 and 1. Each of its rewards
    :math:`r` moves them before it is divided:

    .. math::

        m \leftarrow (1 - \alpha) m + \alpha r, \qquad
        v \leftarrow (1 - \alpha) v + \alpha (r - m)^2, \qquad
        r' = r / (\sqrt v + \epsilon), \qquad \alpha = 0.001.

    The mean is not subtracted. These are the rules of ``NormalizedEnvWrapper`` in
    facebookresearch/mtenv, on which the published MT10 results of gradient balancing rest. A
    replay memory keeps the scale that its rewards had when they came.

    Copies of a task share nothing: the published code has one environment per task, and so each
    copy's rewards depend neither on how many copies there are nor on who steps them.

    Args:
        num_envs: Number of environments.

    Attributes:
        mean: Running mean of each environment's rewards, ``[num_envs]``.
        variance: Running variance, ``[num_envs]``. The two are the whole state, replaced and never
            written to by :meth:`scale`.
    """

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs
        self.restart()

    def restart(self) -> None:
        """Forgets all rewards."""
        self.mean: NDArray[np.float64] = np.zeros(self._num_envs)
        self.variance: NDArray[np.float64] = np.ones(self._num_envs)

    def scale(self, rewards: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Takes the rewards of one step into account, then divides them.

        Args:
            rewards: One per environment, ``[num_envs]``.
            valid: Which of them are to be learnt from. The others are taken as zero and leave the
                moments alone.
        """
        rewards = np.where(valid, rewards, np.float32(0.0))
        mean = (1 - RATE) * self.mean + RATE * rewards.astype(np.float64)
        variance = (1 - RATE) * self.variance + RATE * np.square(rewards - mean)
        self.mean = np.where(valid, mean, self.mean)
        self.variance = np.where(valid, variance, self.variance)
        scaled: NDArray[np.float64] = rewards / (np.sqrt(self.variance) + EPSILON)
        return scaled.astype(np.float32)


def make_reward_scaler(
    normalization: RewardNormalization, num_envs: int
) -> RunningVarianceScaler | None:
    """Makes what a setting asks for; None where rewards stay as they are.

    Raises:
        ConfigError: If there is no such setting.
    """
    possible = get_args(RewardNormalization)
    if normalization not in possible:
        raise ConfigError(
            f"unknown reward_normalization {normalization!r}; possible: {', '.join(possible)}"
        )
    return RunningVarianceScaler(num_envs) if normalization == "running_variance" else None
