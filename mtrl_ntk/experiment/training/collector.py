"""Acts in the environments, and keeps what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mtrl_ntk.experiment.logs.metrics import EpisodeStatistics
from mtrl_ntk.experiment.training.health import Health
from mtrl_ntk.rl.envs import MultiTaskVectorEnv, StepResults
from mtrl_ntk.rl.exploration import Exploration
from mtrl_ntk.rl.features import Features
from mtrl_ntk.rl.reward_scale import RewardScale
from mtrl_ntk.rl.transitions import NStepReturns
from mtrl_ntk.rl.types import FloatArray, Transitions

Scalar = TypeVar("Scalar", bound=np.generic)


class Collector:
    """Steps environments with an agent's actions, and hands on the transitions.

    Args:
        envs: The environments.
        exploration: Chooses the actions.
        returns: Makes of the transitions what the replay is given.
        reward_scale: Takes note of the transitions.
        features: Takes note of them, too.
        health: Keeps out what is not finite.
        episodes: Takes note of episodes that end.

    Attributes:
        observations: Those of the present, ``[num_envs, observation]``.
    """

    def __init__(
        self,
        envs: MultiTaskVectorEnv,
        exploration: Exploration,
        returns: NStepReturns,
        reward_scale: RewardScale,
        features: Features,
        health: Health,
        episodes: EpisodeStatistics,
    ) -> None:
        self.envs, self.exploration = envs, exploration
        self.returns, self.reward_scale, self.features = returns, reward_scale, features
        self.observations: FloatArray = np.zeros(0, np.float32)
        self._actions: FloatArray = np.zeros(0, np.float32)
        self._health, self._episodes = health, episodes

    def reset(self) -> None:
        """Starts episodes everywhere."""
        self.observations, _ = self.envs.reset()

    def begin_step(self, step: int) -> None:
        """Chooses actions and hands them to the environments; workers step them meanwhile.

        Args:
            step: Number of the vector step, from 1.
        """
        self._actions = self.choose_actions(step)
        self.envs.step_async(self._actions)

    def end_step(self) -> None:
        """Takes the results of the step, and keeps its transitions."""
        results = self.envs.step_wait()
        self._remember(results)
        self.observations = results[0]

    @property
    def is_stepping(self) -> bool:
        """Whether a step was begun and has not ended."""
        return self.envs.pending_actions is not None

    def choose_actions(self, step: int) -> FloatArray:
        """Actions ``[num_envs, action]`` of a vector step."""
        return self.exploration.actions(step, self._by_task(self.observations))

    def _remember(self, results: StepResults) -> None:
        next_observations, rewards, terminated, truncated, infos = results
        transitions = Transitions(
            self._by_task(self.observations),
            self._by_task(self._actions),
            self._by_task(rewards),
            self._by_task(infos.get("final_obs", next_observations)),
            self._by_task(terminated),
            self._by_task(truncated),
            self._by_task(infos["valid"]),
        )
        keep = self._health.keepable(transitions.valid, *transitions[:4])
        transitions = transitions._replace(valid=keep)
        self.reward_scale.observe(transitions)
        self.features.observe(transitions)
        self.returns.add(transitions)
        self._episodes.add(infos)
        self.exploration.observe(infos)

    def _by_task(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Views ``[tasks * copies, ...]`` as ``[tasks, copies, ...]``."""
        return values.reshape(self.envs.num_tasks, self.envs.envs_per_task, *values.shape[1:])

    def restore_envs(self, state: Mapping[str, Any]) -> None:
        """Goes on from where equal environments stood; begins again a step that was begun."""
        self.observations = self.envs.restore(state)
        if (pending := self.envs.pending_actions) is not None:
            self._actions = pending

    def compare(self, observations: Any) -> str | None:  # noqa: ANN401 - a saved array
        """Says so if the restored environments do not show what they showed before."""
        if np.array_equal(self.observations, observations.numpy()):
            return None
        return "the simulation does not repeat itself here to the last bit"
