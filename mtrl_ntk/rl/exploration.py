"""How actions are chosen while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.spaces import Space
from torch import Tensor

from mtrl_ntk.rl.sac import MultiTaskSAC
from mtrl_ntk.rl.types import FloatArray


class Exploration:
    """Uniformly random actions at first, then samples of the policy with new noise at each step.

    A subclass with noise of another kind overrides :meth:`noise`, and keeps its state.

    Args:
        agent: Whose policy it is.
        action_space: Draws the random actions, ``[num_envs, action]``.
        warmstart_steps: Vector steps with random actions.
    """

    def __init__(self, agent: MultiTaskSAC, action_space: Space[Any], warmstart_steps: int) -> None:
        self.agent = agent
        self._action_space, self._warmstart_steps = action_space, warmstart_steps

    def actions(self, step: int, observations: FloatArray) -> FloatArray:
        """Actions ``[num_envs, action]`` of a vector step.

        Args:
            step: Its number, from 1.
            observations: ``[tasks, copies, observation]``.
        """
        if step <= self._warmstart_steps:
            drawn: FloatArray = self._action_space.sample()
            return drawn
        noise = self.noise(observations.shape[1])
        actions = self.agent.act(torch.from_numpy(observations).to(self.agent.device), noise)
        chosen: FloatArray = actions.flatten(0, 1).cpu().numpy()
        return chosen

    def noise(self, copies: int) -> Tensor:
        """Noise of the policy, standard normal at each single step, ``[tasks, copies, action]``."""
        return self.agent.draw_action_noise(copies)

    def state(self) -> dict[str, Any]:
        """What later actions depend on besides the agent and the streams; for :meth:`restore`."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`; from an empty one where a checkpoint has none."""
