"""What the replay is given for a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.types import Transitions


class OneStepReturns:
    """Each transition as it came: the reward of one step, and the observation after it.

    A subclass that sums the rewards of several steps keeps in its state what it holds back.

    Args:
        replay: Where transitions go.
    """

    def __init__(self, replay: MultiTaskReplayBuffer) -> None:
        self.replay = replay

    def add(self, transitions: Transitions) -> None:
        """Takes the transitions of a step, and adds to the replay what is complete."""
        self.replay.add(
            transitions.observations,
            transitions.actions,
            transitions.rewards,
            transitions.next_observations,
            transitions.terminated,
            transitions.valid,
        )

    def state(self) -> dict[str, Any]:
        """What is held back; for :meth:`restore`."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`; from an empty one where a checkpoint has none."""
