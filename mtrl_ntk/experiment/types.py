"""What the rooms of a run hand to one another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrl_ntk.rl.types import FloatArray

NO_SUCCESS = "none: mean returns count"
"""What protocols say of success where nothing counts as such."""

PolicyFunction = Callable[[FloatArray], FloatArray]
"""Maps observations ``[tasks, copies, observation]`` to actions ``[tasks, copies, action]``."""


@dataclass(frozen=True)
class Counters:
    """How far a run has come."""

    vector_steps: int
    """Steps of the vector environment; the step axis of TensorBoard."""
    env_steps: int
    """Steps of all environments together."""
    updates: int
    """Gradient updates."""
    seconds: float
    """Wall-clock time since the start of the run."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Counters:
        """Reads what ``asdict`` has made.

        Raises:
            ValueError, TypeError: If it is not that.
        """
        counters = cls(**values)
        counts = (counters.vector_steps, counters.env_steps, counters.updates)
        if not all(map(_is_count, counts)) or not 0 <= counters.seconds < math.inf:
            raise ValueError(f"it was at {counters}")
        return counters


@dataclass(frozen=True)
class LogPosition:
    """How far the logs of a run go: what is beyond is cut off when a run goes on from there."""

    vector_steps: int = 0
    """Steps of the vector environment so far."""
    training: int = 0
    """Bytes of ``training.csv``."""
    evaluation: int = 0
    """Bytes of ``evaluation.csv``."""
    events: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each file of TensorBoard events, by name."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LogPosition:
        """Reads what ``asdict`` has made.

        Raises:
            ValueError, TypeError: If it is not that.
        """
        position = cls(**values)
        sizes = (position.vector_steps, position.training, position.evaluation)
        if not all(map(_is_count, (*sizes, *position.events.values()))):
            raise ValueError(f"logs end at {position}")
        return position


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


@dataclass(frozen=True)
class EvaluationResult:
    """Success and return per task."""

    task_names: tuple[str, ...]
    """Names in the order of the arrays."""
    success_rates: npt.NDArray[np.float64]
    """Share of successful episodes, ``[tasks]``; NaN where nothing counts as success."""
    mean_returns: npt.NDArray[np.float64]
    """Mean undiscounted return up to the episode's end, ``[tasks]``."""
    episodes: int
    """Episodes per task."""

    @property
    def mean_success_rate(self) -> float:
        """Mean success rate over the tasks."""
        return float(self.success_rates.mean())

    @property
    def has_success(self) -> bool:
        """Whether anything counts as success."""
        return not np.isnan(self.success_rates).all()

    @property
    def score(self) -> float:
        """What tells better evaluations from worse: mean success, or else mean return."""
        return self.mean_success_rate if self.has_success else float(self.mean_returns.mean())

    def to_json(self) -> dict[str, Any]:
        """The result in types that JSON knows."""
        return {
            "task_names": list(self.task_names),
            "success_rates": self.success_rates.tolist() if self.has_success else None,
            "mean_returns": self.mean_returns.tolist(),
            "episodes": self.episodes,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EvaluationResult:
        """Reads what :meth:`to_json` has made."""
        names, rates = tuple(values["task_names"]), values["success_rates"]
        if rates is None:  # as JSON has no NaN
            rates = [math.nan] * len(names)
        return cls(
            task_names=names,
            success_rates=np.array(rates, dtype=np.float64),
            mean_returns=np.array(values["mean_returns"], dtype=np.float64),
            episodes=int(values["episodes"]),
        )
