"""What a Python program is told of a run while it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.training.clock import Clock
from mtrl_ntk.experiment.types import Counters, EvaluationResult
from mtrl_ntk.rl.sac import MultiTaskSAC


@dataclass(frozen=True)
class RunView:
    """A run as its callbacks see it."""

    config: RunConfig
    """Its configuration."""
    run_dir: Path
    """Its folder."""
    agent: MultiTaskSAC
    """Its agent."""
    clock: Clock
    """Counts its steps."""

    @property
    def counters(self) -> Counters:
        """How far it is."""
        return self.clock.counters


V_contra = TypeVar("V_contra", contravariant=True)
E_contra = TypeVar("E_contra", contravariant=True)


class CallbackOf(Generic[V_contra, E_contra]):
    """Is told what happens in a run; a subclass overrides what it wants to know.

    A method that returns False ends the run after the step that it is in: it is evaluated and
    saved, and can go on another time. An exception ends it at once, and leaves it as last saved.
    """

    def on_step(self, run: V_contra) -> bool | None:
        """A step is taken, with its updates."""

    def on_evaluation(self, run: V_contra, result: E_contra) -> bool | None:
        """What was learnt is evaluated."""

    def on_save(self, run: V_contra, folder: Path) -> bool | None:
        """A checkpoint was saved into a folder."""


class Callback(CallbackOf[RunView, EvaluationResult]):
    """Is told what happens in a run of reinforcement learning."""


class Callbacks:
    """The callbacks of a run, one after the other.

    Args:
        callbacks: Who is told.
        run: What they are told of.

    Attributes:
        want_end: Whether one of them has asked for the end of the run.
    """

    def __init__(self, callbacks: Sequence[CallbackOf[Any, Any]], run: object) -> None:
        self.want_end = False
        self._callbacks, self._run = tuple(callbacks), run

    def on_step(self) -> None:
        """Tells them of a step."""
        self._take(callback.on_step(self._run) for callback in self._callbacks)

    def on_evaluation(self, result: object) -> None:
        """Tells them of an evaluation."""
        self._take(callback.on_evaluation(self._run, result) for callback in self._callbacks)

    def on_save(self, folder: Path) -> None:
        """Tells them of a checkpoint."""
        self._take(callback.on_save(self._run, folder) for callback in self._callbacks)

    def _take(self, answers: Iterable[bool | None]) -> None:
        for answer in answers:  # all of them are told, whatever the first one answers
            self.want_end |= answer is False
