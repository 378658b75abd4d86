"""How actions are chosen while training."""

from __future__ import annotations

import math
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


class HeldNoise(Exploration):
    r"""Holds the noise of each environment for some steps, so that it carries actions somewhere.

    How long is drawn anew each time: :math:`\min(k, K)` with :math:`P(k) \propto k^{-2}`; see
    Dabney et al., *Temporally-Extended epsilon-Greedy Exploration*, arXiv 2006.01782.

    Args:
        agent: Whose policy it is.
        action_space: Draws the random actions, ``[num_envs, action]``.
        warmstart_steps: Vector steps with random actions.
        longest: Steps K that a noise is held at most.
    """

    def __init__(
        self, agent: MultiTaskSAC, action_space: Space[Any], warmstart_steps: int, longest: int
    ) -> None:
        super().__init__(agent, action_space, warmstart_steps)
        lengths = torch.arange(1, longest + 1, dtype=torch.float64)
        shares = lengths**-2
        # All longer ones are as long as the longest: the rest of the sum to pi^2 / 6.
        shares[-1] += math.pi**2 / 6 - shares.sum()
        self._shares = shares.to(agent.device)
        self._noise = self._left = torch.zeros(0, device=agent.device)

    def noise(self, copies: int) -> Tensor:
        """See the base class."""
        fresh = self.agent.draw_action_noise(copies)
        shape = fresh.shape[:2]
        drawn = torch.multinomial(
            self._shares, shape.numel(), replacement=True, generator=self.agent.generator
        )
        if self._left.shape != shape:
            self._noise, self._left = torch.zeros_like(fresh), torch.zeros_like(drawn).view(shape)
        is_over = self._left == 0
        self._noise = torch.where(is_over[..., None], fresh, self._noise)
        self._left = torch.where(is_over, 1 + drawn.view(shape), self._left) - 1
        return self._noise

    def state(self) -> dict[str, Any]:
        """See the base class."""
        return {"noise": self._noise, "left": self._left}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See the base class."""
        if state:
            self._noise, self._left = (
                state[name].to(self._noise.device) for name in ("noise", "left")
            )


def make_exploration(
    agent: MultiTaskSAC, action_space: Space[Any], warmstart_steps: int, *, hold_noise: int = 1
) -> Exploration:
    """Makes what chooses actions, with noise that is held for so many steps at most."""
    if hold_noise == 1:
        return Exploration(agent, action_space, warmstart_steps)
    return HeldNoise(agent, action_space, warmstart_steps, hold_noise)
