"""The training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mtrl_ntk.errors import Interrupted, RunFailed
from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.checkpoints.run_state import RunState
from mtrl_ntk.experiment.config import FIXED, SHARED, to_dict
from mtrl_ntk.experiment.families import Configuration
from mtrl_ntk.experiment.files.layout import DIAGNOSIS
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.training.callbacks import Callbacks
from mtrl_ntk.experiment.training.crash_dump import save_crash_dump
from mtrl_ntk.experiment.training.messages import announce_resumption, what_is_unsaved
from mtrl_ntk.experiment.training.run_statistics import Statistics
from mtrl_ntk.experiment.training.saver import Saver
from mtrl_ntk.experiment.training.signals import StopRequest


class EvaluationStopped(Exception):
    """A stop was asked for during an evaluation."""


class Steps(Protocol):
    """Takes the steps of a run."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What ends a run from outside, so that it can go on another time."""

    @property
    def is_stepping(self) -> bool:
        """Whether an interruption has left a step undone."""

    def begin(self) -> None:
        """Begins a new run."""

    def take_step(self) -> None:
        """Takes a step."""

    def end_step(self) -> None:
        """Ends what an interruption has left undone."""

    def next_batch(self) -> Mapping[str, Any]:
        """What the next step would learn from."""


class Evaluations(Protocol):
    """Evaluates what a run has learnt."""

    last: Any
    """The last evaluation; None before the first."""
    at: int
    """Steps at which it was; below zero before the first."""

    def evaluate(self, counters: Any, /) -> Any:  # noqa: ANN401 - what `last` then is
        """Evaluates.

        Raises:
            EvaluationStopped: If a stop is asked for before the end.
        """

    def success_at(self, step: int, /) -> float | None:
        """Mean success rate of the evaluation at a step, if it has such a thing."""

    @property
    def why_enough(self) -> str:
        """Why the last evaluation is good enough to end the run, in words."""


class Log(Protocol):
    """Puts rows together."""

    def add_row(self) -> bool:
        """Shows and logs the present state; returns whether there was anything to log."""

    def go_on(self, evaluation: Any, /) -> None:  # noqa: ANN401 - the last one, or None
        """Shows how far an interrupted run was."""


@dataclass(frozen=True)
class Schedule:
    """What is due every so many steps; 0 stands for never."""

    log: int
    """A row of the log."""
    evaluation: int
    """An evaluation, and a checkpoint."""
    checkpoint: int
    """A checkpoint besides."""


@dataclass(frozen=True)
class TrainingLoop:
    """Takes a run's steps to its end; logs, evaluates and saves between them what is due."""

    config: Configuration
    """The run's configuration."""
    schedule: Schedule
    """When what is due."""
    trainer: Steps
    """Takes the steps."""
    state: RunState[Any]
    """All that the run goes on from."""
    statistics: Statistics
    """What is counted."""
    log: Log
    """Puts rows together."""
    logger: RunLogger
    """Where rows, results and everything else go."""
    evaluations: Evaluations
    """Evaluates what was learnt."""
    saver: Saver
    """Saves checkpoints."""
    progress: Progress
    """Shows it to a person."""
    stop: StopRequest
    """Asks to stop."""
    callbacks: Callbacks
    """Are told of it."""
    command_to_go_on: str
    """What goes on with the run if it stops."""
    drop_replay: bool = False
    """Whether what only further training needs is removed at the end."""

    def begin(self, start: Start | None) -> None:
        """Begins, or goes to where an interrupted run was.

        Args:
            start: What the run goes on from; None for a new one.
        """
        if start is None or start.found is None:
            self.trainer.begin()
            return
        remarks = self.state.restore(start.found)
        step, say = self.statistics.clock.step, self.progress.message
        announce_resumption(say, step, start.found.folder, start.changes, remarks)
        self.log.go_on(self.evaluations.last)
        if not self.trainer.is_stepping:
            self.saver.saved_at = step
        if start.continues and (later := self.saver.remove_after(step)):
            say(f"removed what came after it: {', '.join(path.name for path in later)}")

    def run(self) -> Any:  # noqa: ANN401 - an evaluation
        """Goes on to the end of the run; returns the last evaluation.

        Raises:
            Interrupted: If a signal asked to stop; the run is saved by then.
            RunFailed: If the environments cannot go on; the run is saved by then.
        """
        clock, trainer = self.statistics.clock, self.trainer
        try:
            if trainer.is_stepping:  # what an interruption has left undone
                trainer.end_step()
                self._after_step()
            self._evaluate_and_save()
            while not self._is_over:
                trainer.take_step()
                self._after_step()
                self._evaluate_and_save()
                self._stop_if_asked()
            return self._finish()
        except EvaluationStopped:
            self._stop_if_asked()
            raise
        except trainer.failures as error:
            self._save_or_fail(f"{error}; stopped after {clock.step} steps")
            raise RunFailed(
                f"{error}; saved after {clock.step} steps; to go on: {self.command_to_go_on}"
            ) from error

    def _after_step(self) -> None:
        self._log_if_due()
        self.callbacks.on_step()

    def _log_if_due(self) -> None:
        clock = self.statistics.clock
        paused = self.statistics.rates.paused_s
        if (seconds := self.statistics.eta.after(clock.counters, paused)) is not None:
            self.progress.estimate(seconds)
        if clock.is_due(self.schedule.log):
            self._log()

    def _log(self) -> None:
        if self.log.add_row():
            self._require_health()

    def _evaluate_and_save(self) -> None:
        """Evaluates and saves what is due."""
        clock, due = self.statistics.clock, self.schedule
        evaluation_is_due = clock.is_due(due.evaluation) and self.evaluations.at != clock.step
        if evaluation_is_due:
            self._evaluate()
        save_is_due = (
            evaluation_is_due
            or clock.is_due(due.checkpoint)
            or (self.saver.failure is not None and clock.is_due(due.log))
        )
        # The last step is saved when all of it is done.
        if save_is_due and self.saver.saved_at != clock.step and not self._is_over:
            self._save()

    @property
    def _is_over(self) -> bool:
        """Whether no further step is to be taken."""
        return self.callbacks.want_end or self._is_finished

    @property
    def _is_finished(self) -> bool:
        """Whether the last step is taken, or this step's evaluation was good enough."""
        success = self.evaluations.success_at(self.statistics.clock.step)
        return self.config.is_over(self._count, success)

    @property
    def _count(self) -> int:
        """How far the run is, in the unit of its length."""
        count: int = getattr(self.statistics.clock.counters, self.config.family.unit)
        return count

    def _finish(self) -> Any:  # noqa: ANN401 - an evaluation
        """Does what is done at the end, whatever the intervals.

        The state that is saved is the one before: a longer run can go on from it as if it had never
        ended, and takes what only the end has brought out of the logs.
        """
        clock = self.statistics.clock
        position = self.logger.position(clock.step)
        result = self.evaluations.last
        if result is None or self.evaluations.at != clock.step:
            result = self._evaluate()
        if self._count < self.config.length:
            self.progress.message(f"ended after {clock.step} steps: {self._why_early}")
        state = self.state.capture() | {"log": position.to_json()}
        if not clock.is_due(self.schedule.log):
            self._log()
        self.logger.log_results(clock.counters, to_dict(self.config, SHARED | FIXED))
        is_final = self._is_finished
        if self._save(state, finished=is_final) and is_final and self.drop_replay:
            self.saver.drop_replay()
        return result

    @property
    def _why_early(self) -> str:
        if self._is_finished:
            return self.evaluations.why_enough
        return f"a callback wants it; to go on: {self.command_to_go_on}"

    def _stop_if_asked(self) -> None:
        if self.stop.received is None:
            return
        stopped = f"stopped by {self.stop.received.name} after {self.statistics.clock.step} steps"
        self._save_or_fail(stopped)
        raise Interrupted(f"{stopped}; to go on: {self.command_to_go_on}", self.stop.received)

    def _save_or_fail(self, stopped: str) -> None:
        """Saves what is not saved yet, or raises what says why the run has stopped unsaved."""
        if self.saver.saved_at != self.statistics.clock.step and not self._save():
            raise RunFailed(
                f"{stopped}, {what_is_unsaved(self.saver, self.logger)}; to go on from there: "
                f"{self.command_to_go_on}"
            )

    def _evaluate(self) -> Any:  # noqa: ANN401 - an evaluation
        with self.statistics.rates.paused():
            result = self.evaluations.evaluate(self.statistics.clock.counters)
            self.callbacks.on_evaluation(result)
        return result

    def _save(self, state: Mapping[str, Any] | None = None, *, finished: bool = False) -> bool:
        self._require_health()
        with self.statistics.rates.paused():
            folder = self.saver.save(state, finished=finished)
            if folder is not None:
                self.callbacks.on_save(folder)
        return folder is not None

    def _require_health(self) -> None:
        """Ends a run that has nothing more to learn, before a checkpoint is made of it.

        Raises:
            RunFailed: If something stays not finite.
        """
        findings = self.statistics.health.findings(self.state.agent)
        if not findings:
            return
        run_dir = self.logger.run_dir
        folder = run_dir / DIAGNOSIS
        self.logger.outages.attempt(
            str(folder),
            lambda: save_crash_dump(run_dir, self.state, self.trainer.next_batch(), findings),
            "the run ends without",
        )
        more = f" and {len(findings) - 3} more" if len(findings) > 3 else ""
        step = self.statistics.clock.step
        raise RunFailed(
            f"stopped after {step} steps, as {'; '.join(findings[:3])}{more}. "
            f"What led to it is in {folder}; {self.saver.newest}"
        )
