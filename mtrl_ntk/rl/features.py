"""What an observation becomes before a network sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_ntk.rl.suites.features import FeatureMap
from mtrl_ntk.rl.suites.suite import Suite
from mtrl_ntk.rl.types import Transitions


class Features(nn.Module, ABC):
    """A function of observations without parameters, which all networks of an agent share.

    What it has in buffers is saved with the agent.

    Args:
        dim: Number of features.

    Attributes:
        dim: Number of features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def observe(self, transitions: Transitions) -> None:
        """Takes note of a step, before it is learnt from."""

    def state(self) -> dict[str, Any]:
        """What the buffers come from; for :meth:`restore`."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`; from an empty one where a checkpoint has none."""

    @abstractmethod
    def forward(self, observations: Tensor) -> Tensor:
        """Maps ``[tasks, batch, observation]`` to ``[tasks, batch, dim]``."""


class RawObservations(Features):
    """The observations as they are."""

    def forward(self, observations: Tensor) -> Tensor:
        """See the base class."""
        return observations


class MappedObservations(Features):
    """Sums of an observation's entries, some of them squashed.

    Computed in the precision of the observations, in which small differences of large numbers
    survive, whatever layers multiply in.

    Args:
        mapping: Which sums.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, mapping: FeatureMap) -> None:
        super().__init__(mapping.dim)
        self._num_linear = mapping.num_linear
        # The suite's, not learnt: checkpoints have no need of them.
        self.register_buffer("weight", torch.from_numpy(mapping.weight), persistent=False)
        self.register_buffer("bias", torch.from_numpy(mapping.bias), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """See the base class."""
        with torch.autocast(observations.device.type, enabled=False):
            sums = functional.linear(observations, self.weight, self.bias)
        split = self._num_linear
        return torch.cat([sums[..., :split], sums[..., split:].tanh()], -1)


class RunningObservations(Features):
    r"""Observations in units of each task's running deviation, from its running mean.

    Every valid transition of a task, random actions included, moves the mean and variance of that
    task's observations; each counts the same. An entry that has not changed yet is zero.

    .. math::

        \phi(o) = \mathrm{clip}\bigl((o - m_i) / \sqrt{v_i + 10^{-8}}, \pm 10\bigr)

    The replay keeps raw observations: a row is seen in the units of the update that draws it.

    Args:
        dim: Length of an observation.
        num_tasks: Number of tasks.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, num_tasks: int) -> None:
        super().__init__(dim)
        # Written in place, as updates may be recorded; saved, as policies are nothing without.
        self.register_buffer("mean", torch.zeros(num_tasks, 1, dim))
        self.register_buffer("scale", torch.ones(num_tasks, 1, dim))
        self._count = np.zeros((num_tasks, 1))
        self._mean = np.zeros((num_tasks, dim))
        self._squares = np.zeros((num_tasks, dim))

    def observe(self, transitions: Transitions) -> None:
        """See the base class."""
        valid = transitions.valid[..., None]
        observations = np.where(valid, transitions.observations, 0).astype(np.float64)
        added = valid.sum(1)
        if not added.any():
            return
        mean = observations.sum(1) / np.maximum(added, 1)
        squares = (np.where(valid, observations - mean[:, None], 0) ** 2).sum(1)
        # Chan et al. (1983): moments of two samples are those of both.
        count, moved = self._count + added, mean - self._mean
        share = added / np.maximum(count, 1)
        self._squares = self._squares + squares + moved**2 * self._count * share
        self._mean = self._mean + moved * share
        self._count = count
        self._write()

    def _write(self) -> None:
        variance = self._squares / np.maximum(self._count, 1)
        scale = np.where(self._count > 1, 1 / np.sqrt(variance + _LEAST_VARIANCE), 1.0)
        self.mean.copy_(torch.from_numpy(self._mean)[:, None])
        self.scale.copy_(torch.from_numpy(scale)[:, None])

    def state(self) -> dict[str, Any]:
        """See the base class."""
        return {"count": self._count, "mean": self._mean, "squares": self._squares}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See the base class."""
        if state:
            self._count, self._mean, self._squares = (
                state[key].numpy() for key in ("count", "mean", "squares")
            )
            self._write()

    def forward(self, observations: Tensor) -> Tensor:
        """See the base class."""
        with torch.autocast(observations.device.type, enabled=False):
            return ((observations - self.mean) * self.scale).clamp(-_LARGEST, _LARGEST)


_LEAST_VARIANCE = 1e-8
_LARGEST = 10.0


def make_features(name: str, suite: Suite, num_tasks: int) -> Features:
    """Makes the features of a suite's observations that an option names.

    Raises:
        ConfigError: If the suite has none of that name.
    """
    if name == "raw":
        return RawObservations(suite.observation_dim)
    if name == "running":
        return RunningObservations(suite.observation_dim, num_tasks)
    suite.check_choice("features", name)
    return MappedObservations(suite.features[name])
