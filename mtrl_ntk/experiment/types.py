"""What the rooms of a run hand to one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
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


@dataclass(frozen=True)
class EvaluationResult:
    """Success and return per task."""

    task_names: tuple[str, ...]
    """Names in the order of the arrays."""
    success_rates: npt.NDArray[np.float64]
    """Share of successful episodes, ``[tasks]``."""
    mean_returns: npt.NDArray[np.float64]
    """Mean undiscounted return up to the episode's end, ``[tasks]``."""
    episodes: int
    """Episodes per task."""

    @property
    def mean_success_rate(self) -> float:
        """Mean success rate over the tasks."""
        return float(self.success_rates.mean())
