"""How actions are chosen while training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space
from numpy.typing import NDArray
from torch import Tensor

from mtrl_ntk.rl.cuda_graph import Graphed, Recorder
from mtrl_ntk.rl.sac import MultiTaskSAC
from mtrl_ntk.rl.types import FloatArray


class HoldTimes:
    r"""For how many steps something is held: :math:`\min(k, K)` with :math:`P(k) \propto k^{-2}`.

    Args:
        longest: Steps K at most.
        device: Where times are drawn.
    """

    def __init__(self, longest: int, device: torch.device) -> None:
        lengths = torch.arange(1, longest + 1, dtype=torch.float64)
        shares = lengths**-2
        # All longer ones are as long as the longest: the rest of the sum to pi^2 / 6.
        shares[-1] += math.pi**2 / 6 - shares.sum()
        self._shares = shares.to(device)

    def draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Steps, each at least 1, in a given shape."""
        drawn = torch.multinomial(
            self._shares, shape.numel(), replacement=True, generator=generator
        )
        return 1 + drawn.view(shape)


class EzGreedy:
    r"""Random actions held for a while, in place of the policy's, where a task often fails.

    At each step a copy sets out with a probability of :math:`\epsilon` times the share of failures
    among its task's latest episodes. A policy that rests where every small change costs something
    corrects the noise in its own actions; this it cannot. The first of several copies never sets
    out, so that there always are episodes as the policy has them. See Dabney et al.,
    *Temporally-Extended epsilon-Greedy Exploration*, arXiv 2006.01782, where nothing answers to
    failures.

    Args:
        num_tasks: Number of tasks.
        epsilon: The probability while a task has never succeeded.
        longest: Steps that an action is held at most, see :class:`HoldTimes`.
        generator: Draws when, where to, and for how long.
    """

    def __init__(
        self, num_tasks: int, epsilon: float, longest: int, generator: torch.Generator
    ) -> None:
        self._epsilon, self._generator = epsilon, generator
        self._times = HoldTimes(longest, generator.device)
        self._successes = np.zeros(num_tasks)
        chances = torch.full((num_tasks, 1), epsilon, dtype=torch.float64)
        self._chances = chances.to(generator.device)
        self._actions = self._left = torch.zeros(0, device=generator.device)

    def replace(self, actions: Tensor) -> Tensor:
        """The policy's actions ``[tasks, copies, action]``, or what is held instead."""
        if self._left.shape != actions.shape[:2]:
            self._actions = torch.zeros_like(actions)
            self._left = torch.zeros(actions.shape[:2], dtype=torch.long, device=actions.device)
        sets_out = self._sets_out()
        directions = 2 * self._draw(actions.shape) - 1
        times = self._times.draw(self._left.shape, self._generator)
        self._actions.copy_(torch.where(sets_out[..., None], directions, self._actions))
        left = torch.where(sets_out, times, self._left)
        self._left.copy_((left - 1).clamp(min=0))
        return torch.where((left > 0)[..., None], self._actions, actions)

    def _sets_out(self) -> Tensor:
        sets_out = (self._draw(self._left.shape) < self._chances) & (self._left == 0)
        if self._left.shape[1] > 1:
            sets_out[:, 0] = False
        return sets_out

    def _draw(self, shape: torch.Size) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self._generator.device)

    def observe(self, ended: NDArray[np.bool_], successes: FloatArray) -> None:
        """Takes note of episodes that ended.

        Args:
            ended: In which environments, ``[num_envs]``.
            successes: Whether they succeeded, ``[num_envs]``; NaN where nothing says so, which
                changes nothing: where nobody knows, exploration goes on as at first.
        """
        copies = len(ended) // len(self._successes)
        for index in np.flatnonzero(ended & ~np.isnan(successes)):
            task = index // copies
            self._successes[task] += _NEWEST * (float(successes[index]) - self._successes[task])
        self._write_chances()

    def _write_chances(self) -> None:
        self._chances.copy_(torch.from_numpy(self._epsilon * (1 - self._successes))[:, None])

    def state(self) -> dict[str, Any]:
        """See :class:`Exploration`."""
        held = {"actions": self._actions.clone(), "left": self._left.clone()}
        return held | {"successes": self._successes.copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See :class:`Exploration`."""
        self._actions = _written(self._actions, state["actions"])
        self._left = _written(self._left, state["left"])
        self._successes = state["successes"].numpy()
        self._write_chances()


_NEWEST = 0.1
"""Share of the newest episode in a task's success rate."""


def _written(memory: Tensor, numbers: Tensor) -> Tensor:
    """Writes numbers where recordings look for them; into new memory if there is none yet."""
    if memory.shape != numbers.shape:
        return numbers.to(memory.device, copy=True)
    return memory.copy_(numbers)


class Exploration:
    """Uniformly random actions at first, then samples of the policy with new noise at each step.

    A subclass with noise of another kind overrides :meth:`noise`, and keeps its state.

    Args:
        agent: Whose policy it is.
        action_space: Draws the random actions, ``[num_envs, action]``.
        warmstart_steps: Vector steps with random actions.
        detours: Replaces some of the policy's actions; none when left out.
        recorder: Records how actions are chosen; None chooses operation by operation.
    """

    def __init__(
        self,
        agent: MultiTaskSAC,
        action_space: Space[Any],
        warmstart_steps: int,
        detours: EzGreedy | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.agent, self.detours = agent, detours
        self._action_space, self._warmstart_steps = action_space, warmstart_steps
        self._observations = self._chosen = torch.zeros(0, device=agent.device)
        self._run: Callable[[], None] = self._choose
        if recorder is not None:
            self._run = Graphed(self._choose, [agent.generator], recorder)

    def actions(self, step: int, observations: FloatArray) -> FloatArray:
        """Actions ``[num_envs, action]`` of a vector step.

        Args:
            step: Its number, from 1.
            observations: ``[tasks, copies, observation]``.
        """
        if step <= self._warmstart_steps:
            drawn: FloatArray = self._action_space.sample()
            return drawn
        given = torch.from_numpy(observations)
        if self._observations.shape != given.shape:
            self._observations = torch.empty_like(given, device=self.agent.device)
        self._observations.copy_(given)
        self._run()
        # A copy, as the next actions are written into the same memory.
        chosen: FloatArray = self._chosen.flatten(0, 1).cpu().numpy().copy()
        return chosen

    def _choose(self) -> None:
        noise = self.noise(self._observations.shape[1])
        actions = self.agent.act(self._observations, noise)
        if self.detours is not None:
            actions = self.detours.replace(actions)
        if self._chosen.shape != actions.shape:
            self._chosen = torch.empty_like(actions)
        self._chosen.copy_(actions)

    def noise(self, copies: int) -> Tensor:
        """Noise of the policy, standard normal at each single step, ``[tasks, copies, action]``."""
        return self.agent.draw_action_noise(copies)

    def observe(self, infos: Mapping[str, Any]) -> None:
        """Takes note of the episodes that ended in a step, given the environments' infos."""
        if self.detours is not None and "final_info" in infos:
            self.detours.observe(infos["_final_info"], infos["final_info"]["success"])

    def state(self) -> dict[str, Any]:
        """What later actions depend on besides the agent and the streams; for :meth:`restore`."""
        return {} if self.detours is None else {"detours": self.detours.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`; from an empty one where a checkpoint has none."""
        if self.detours is not None and "detours" in state:
            self.detours.restore(state["detours"])


class HeldNoise(Exploration):
    """Holds the noise of each environment for some steps, so that it carries actions somewhere.

    How long is drawn anew each time, as :class:`HoldTimes` says; see Dabney et al.,
    *Temporally-Extended epsilon-Greedy Exploration*, arXiv 2006.01782.

    Args:
        agent: Whose policy it is.
        action_space: Draws the random actions, ``[num_envs, action]``.
        warmstart_steps: Vector steps with random actions.
        detours: See the base class.
        recorder: See the base class.
        longest: Steps that a noise is held at most.
    """

    def __init__(
        self,
        agent: MultiTaskSAC,
        action_space: Space[Any],
        warmstart_steps: int,
        detours: EzGreedy | None = None,
        recorder: Recorder | None = None,
        *,
        longest: int,
    ) -> None:
        super().__init__(agent, action_space, warmstart_steps, detours, recorder)
        self._times = HoldTimes(longest, agent.device)
        self._noise = self._left = torch.zeros(0, device=agent.device)

    def noise(self, copies: int) -> Tensor:
        """See the base class."""
        fresh = self.agent.draw_action_noise(copies)
        times = self._times.draw(fresh.shape[:2], self.agent.generator)
        if self._left.shape != times.shape:
            self._noise, self._left = torch.zeros_like(fresh), torch.zeros_like(times)
        is_over = self._left == 0
        self._noise.copy_(torch.where(is_over[..., None], fresh, self._noise))
        self._left.copy_(torch.where(is_over, times, self._left) - 1)
        return self._noise

    def state(self) -> dict[str, Any]:
        """See the base class."""
        return super().state() | {"noise": self._noise.clone(), "left": self._left.clone()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See the base class."""
        super().restore(state)
        if "noise" in state:
            self._noise = _written(self._noise, state["noise"])
            self._left = _written(self._left, state["left"])


def make_exploration(
    agent: MultiTaskSAC,
    action_space: Space[Any],
    warmstart_steps: int,
    *,
    hold_noise: int = 1,
    ez_greedy: float = 0.0,
    ez_longest: int = 64,
    recorder: Recorder | None = None,
) -> Exploration:
    """Makes what chooses actions; the options are those of a run."""
    detours = None
    if ez_greedy:
        detours = EzGreedy(agent.num_tasks, ez_greedy, ez_longest, agent.generator)
    if hold_noise == 1:
        return Exploration(agent, action_space, warmstart_steps, detours, recorder)
    return HeldNoise(agent, action_space, warmstart_steps, detours, recorder, longest=hold_noise)
