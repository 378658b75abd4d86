"""What the rooms of a run hand to one another."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mtrl_ntk.rl.types import FloatArray

NO_SUCCESS = "none: mean returns count"
"""What protocols say of success where nothing counts as such."""

PolicyFunction = Callable[[FloatArray], FloatArray]
"""Maps observations ``[tasks, copies, observation]`` to actions ``[tasks, copies, action]``."""


MEAN_TASK = "mean"
"""What stands for all tasks in the rows of evaluations."""

C = TypeVar("C", bound="Counts")
V = TypeVar("V", bound="Evaluation")


@dataclass(frozen=True)
class Counts:
    """How far a run has come: counts, and last the seconds.

    The first is the step that logs, checkpoints and reports go by.
    """

    @property
    def step(self) -> int:
        """The first of the counts."""
        step: int = astuple(self)[0]
        return step

    @classmethod
    def from_json(cls: type[C], values: Mapping[str, Any]) -> C:  # noqa: PYI019 - of Python 3.11
        """Reads what ``asdict`` has made.

        Raises:
            ValueError, TypeError: If it is not that.
        """
        counters = cls(**values)
        *counts, seconds = astuple(counters)
        if not all(map(_is_count, counts)) or not 0 <= seconds < math.inf:
            raise ValueError(f"it was at {counters}")
        return counters


@dataclass(frozen=True)
class Counters(Counts):
    """How far a run of reinforcement learning has come."""

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

    step: int = 0
    """Step of the run; earlier checkpoints call it ``vector_steps``."""
    training: int = 0
    """Bytes of ``training.csv``."""
    evaluation: int = 0
    """Bytes of ``evaluation.csv``."""
    events: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each file of TensorBoard events, by name."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LogPosition:
        """Reads what :meth:`to_json` has made.

        Raises:
            ValueError, TypeError, KeyError: If it is not that.
        """
        key = "step" if "step" in values else "vector_steps"
        others = {name: value for name, value in values.items() if name != key}
        position = cls(values[key], **others)
        sizes = (position.step, position.training, position.evaluation)
        if not all(map(_is_count, (*sizes, *position.events.values()))):
            raise ValueError(f"logs end at {position}")
        return position

    def to_json(self) -> dict[str, Any]:
        """The position in types that JSON knows."""
        sizes = {"training": self.training, "evaluation": self.evaluation}
        return {"step": self.step, **sizes, "events": dict(self.events)}


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


class Evaluation(ABC):
    """What an evaluation has found of each task."""

    task_names: tuple[str, ...]
    """Names of the tasks."""

    @abstractmethod
    def rows(self) -> list[dict[str, object]]:
        """Rows of a table with equal columns, the first of them ``task``."""

    @abstractmethod
    def scalars(self) -> dict[str, float]:
        """Its numbers by tag."""

    def charts(self) -> dict[str, float]:
        """The same, as TensorBoard groups its charts."""
        return self.scalars()

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The evaluation in types that JSON knows."""

    @classmethod
    @abstractmethod
    def from_json(cls: type[V], values: Mapping[str, Any]) -> V:
        """Reads what :meth:`to_json` has made."""


@dataclass(frozen=True)
class EvaluationResult(Evaluation):
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

    @property
    def results(self) -> list[tuple[str, float, float]]:
        """Success rate and return of each task, and their means over the tasks."""
        successes, returns = self.success_rates.tolist(), self.mean_returns.tolist()
        results = list(zip(self.task_names, successes, returns, strict=True))
        return [*results, (MEAN_TASK, float(np.mean(successes)), float(np.mean(returns)))]

    def rows(self) -> list[dict[str, object]]:
        """A row for each task and one for their mean."""
        names = ("task", "success_rate", "mean_return")
        of_tasks = [dict(zip(names, result, strict=True)) for result in self.results]
        return [{**row, "episodes": self.episodes} for row in of_tasks]

    def scalars(self) -> dict[str, float]:
        """Success and return by tag."""
        scalars = {}
        for task, success_rate, mean_return in self.results:
            scalars[f"charts/{task}_success_rate"] = success_rate
            scalars[f"charts/{task}_return"] = mean_return
        return scalars

    def charts(self) -> dict[str, float]:
        """The same, so that the mean success comes first in TensorBoard."""
        charts = {}
        for task, success_rate, mean_return in self.results:
            by_task = "success" if task == MEAN_TASK else "success_by_task"
            charts[f"{by_task}/{task}"] = success_rate
            charts[f"task_return/{task}"] = mean_return
        return charts

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
