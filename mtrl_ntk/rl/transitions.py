"""What the replay is given for a step."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.types import BoolArray, FloatArray, Transitions


class NStepReturns:
    r"""Transitions whose reward is that of several steps, :math:`\sum_{k < n} \gamma^k r_{t + k}`.

    They lead from one observation to that n steps later; see Sutton and Barto, *Reinforcement
    Learning*, section 7.1. Nothing corrects for actions that the present policy would not take. An
    episode's last ones sum fewer steps, as do those before a step that may not be learnt from. With
    n = 1 they are the transitions as they came.

    Args:
        replay: Where they go.
        num_steps: Steps n.
        gamma: Discount factor.
    """

    def __init__(self, replay: MultiTaskReplayBuffer, num_steps: int = 1, gamma: float = 1) -> None:
        self.replay = replay
        self._num_steps, self._gamma = num_steps, gamma
        # Steps before the present one, the newest first, and how many of them each copy is held by.
        self._before: deque[Transitions] = deque(maxlen=num_steps - 1)
        self._held = np.zeros(0, np.int64)

    def add(self, transitions: Transitions) -> None:
        """Takes the transitions of a step, and adds to the replay what is complete."""
        valid, ended = transitions.valid, transitions.terminated | transitions.truncated
        held = self._held if self._before else np.zeros(valid.shape, np.int64)
        self._add_sums([*self._before], held - 1, ~valid)
        self._held = np.where(valid & ~ended, np.minimum(held + 1, self._num_steps - 1), 0)
        self._add_sums([transitions, *self._before], held, valid, ended)
        self._before.appendleft(transitions)

    def _add_sums(
        self,
        steps: list[Transitions],
        oldest: npt.NDArray[np.int64],
        among: BoolArray,
        all_of_them: BoolArray | bool = True,
    ) -> None:
        """Adds sums that end with the newest of some steps, the longest first.

        Args:
            steps: The newest first.
            oldest: Index of the oldest that each copy's sums may begin with, ``[tasks, copies]``.
            among: Copies that are asked for.
            all_of_them: Where shorter sums are added as well as those of n steps.
        """
        if not among.any():
            return
        sums = [step.rewards for step in steps]
        for index in range(1, len(steps)):
            sums[index] = sums[index] + np.float32(self._gamma) * sums[index - 1]
        for index in reversed(range(len(steps))):
            keep = among & (index <= oldest) & (all_of_them | (index == self._num_steps - 1))
            if keep.any():
                self._add(steps[index], sums[index], steps[0], index + 1, keep)

    def _add(
        self,
        first: Transitions,
        rewards: FloatArray,
        last: Transitions,
        num_steps: int,
        keep: BoolArray,
    ) -> None:
        self.replay.add(
            first.observations,
            first.actions,
            rewards,
            last.next_observations,
            np.where(last.terminated, np.float32(1), np.float32(1 - num_steps)),
            keep,
        )

    def state(self) -> dict[str, Any]:
        """What is held back; for :meth:`restore`."""
        if not self._before:
            return {}
        steps = [step._asdict() for step in self._before]
        names = Transitions._fields
        return {name: np.stack([step[name] for step in steps]) for name in names} | {
            "held": self._held
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`; from an empty one where a checkpoint has none."""
        if state:
            arrays = [state[name].numpy() for name in Transitions._fields]
            self._before.extend(Transitions(*parts) for parts in zip(*arrays, strict=True))
            self._held = state["held"].numpy()
