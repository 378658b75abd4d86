"""The training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mtrl_ntk.errors import Interrupted, RunFailed
from mtrl_ntk.experiment.agents import policy_of
from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.checkpoints.run_state import RunState
from mtrl_ntk.experiment.config import FIXED, SHARED, RunConfig, to_dict
from mtrl_ntk.experiment.files.layout import DIAGNOSIS
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.training.callbacks import Callbacks
from mtrl_ntk.experiment.training.crash_dump import save_crash_dump
from mtrl_ntk.experiment.training.evaluations import EvaluationStopped, TrainingEvaluations
from mtrl_ntk.experiment.training.messages import (
    announce_resumption,
    command_to_go_on,
    what_is_unsaved,
)
from mtrl_ntk.experiment.training.run_statistics import RunStatistics
from mtrl_ntk.experiment.training.saver import Saver
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.experiment.training.training_log import TrainingLog
from mtrl_ntk.experiment.types import EvaluationResult
from mtrl_ntk.rl.envs import SimulationError, WorkerError


@dataclass(frozen=True)
class TrainingLoop:
    """Takes a run's steps to its end; logs, evaluates and saves between them what is due."""

    config: RunConfig
    """The run's configuration."""
    trainer: Trainer
    """Takes the steps."""
    state: RunState
    """All that the run goes on from."""
    statistics: RunStatistics
    """What is counted."""
    log: TrainingLog
    """Puts rows together."""
    logger: RunLogger
    """Where rows, results and everything else go."""
    evaluations: TrainingEvaluations
    """Evaluates the policy."""
    saver: Saver
    """Saves checkpoints."""
    progress: Progress
    """Shows it to a person."""
    stop: StopRequest
    """Asks to stop."""
    callbacks: Callbacks
    """Are told of it."""

    def begin(self, start: Start | None) -> None:
        """Starts the first episodes, or goes to where an interrupted run was.

        Args:
            start: What the run goes on from; None for a new one.
        """
        if start is None or start.found is None:
            self.trainer.collector.reset()
            return
        remarks = self.state.restore(start.found)
        step, say = self.statistics.clock.step, self.progress.message
        announce_resumption(say, step, start.found.folder, start.changes, remarks)
        statistics = self.statistics
        rates = statistics.episodes.success_rates.tolist()
        training = dict(zip(statistics.health.task_names, rates, strict=True))
        self.progress.go_on(step, training, self.evaluations.last)
        if not self.trainer.collector.is_stepping:
            self.saver.saved_at = step
        if start.continues and (later := self.saver.remove_after(step)):
            say(f"removed what came after it: {', '.join(path.name for path in later)}")

    def run(self) -> EvaluationResult:
        """Goes on to the end of the run; returns the last evaluation.

        Raises:
            Interrupted: If a signal asked to stop; the run is saved by then.
            RunFailed: If the environments cannot go on; the run is saved by then.
        """
        clock, collector = self.statistics.clock, self.trainer.collector
        try:
            if collector.is_stepping:  # what an interruption has left undone
                collector.end_step()
                self._after_step()
            self._evaluate_and_save()
            while not self._is_over:
                self.trainer.take_step()
                self._after_step()
                self._evaluate_and_save()
                self._stop_if_asked()
            return self._finish()
        except EvaluationStopped:
            self._stop_if_asked()
            raise
        except (SimulationError, WorkerError) as error:
            self._save_or_fail(f"{error}; stopped after {clock.step} steps")
            raise RunFailed(
                f"{error}; saved after {clock.step} steps; to go on: {self._command_to_go_on}"
            ) from error

    def _after_step(self) -> None:
        self._log_if_due()
        self.callbacks.on_step()

    def _log_if_due(self) -> None:
        clock = self.statistics.clock
        paused = self.statistics.rates.paused_s
        if (seconds := self.statistics.eta.after(clock.counters, paused)) is not None:
            self.progress.estimate(seconds)
        if clock.is_due(self.config.loop.log_every):
            self._log()

    def _log(self) -> None:
        if self.log.add_row():
            self._require_health()

    def _evaluate_and_save(self) -> None:
        """Evaluates and saves what is due."""
        clock, loop = self.statistics.clock, self.config.loop
        evaluation_is_due = (
            clock.is_due(self.config.evaluation.evaluate_every)
            and self.evaluations.at != clock.step
        )
        if evaluation_is_due:
            self._evaluate()
        save_is_due = (
            evaluation_is_due
            or clock.is_due(loop.checkpoint_every)
            or (self.saver.failure is not None and clock.is_due(loop.log_every))
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
        step = self.statistics.clock.step
        return self.config.is_over(step, self.evaluations.success_at(step))

    def _finish(self) -> EvaluationResult:
        """Does what is done at the end, whatever the intervals.

        The state that is saved is the one before: a longer run can go on from it as if it had never
        ended, and takes what only the end has brought out of the logs.
        """
        clock = self.statistics.clock
        position = self.logger.position(clock.step)
        result = self.evaluations.last
        if result is None or self.evaluations.at != clock.step:
            result = self._evaluate()
        if clock.step < self.config.loop.total_steps:
            self.progress.message(f"ended after {clock.step} steps: {self._why_early(result)}")
        state = self.state.capture() | {"log": asdict(position)}
        if not clock.is_due(self.config.loop.log_every):
            self._log()
        self.logger.log_results(clock.counters, to_dict(self.config, SHARED | FIXED))
        is_final = self._is_finished
        if self._save(state, finished=is_final) and is_final and self.config.loop.drop_replay:
            self.saver.drop_replay()
        return result

    def _why_early(self, result: EvaluationResult) -> str:
        if self._is_finished:
            return f"a mean success rate of {result.mean_success_rate:.3g} is enough"
        return f"a callback wants it; to go on: {self._command_to_go_on}"

    def _stop_if_asked(self) -> None:
        if self.stop.received is None:
            return
        stopped = f"stopped by {self.stop.received.name} after {self.statistics.clock.step} steps"
        self._save_or_fail(stopped)
        raise Interrupted(f"{stopped}; to go on: {self._command_to_go_on}", self.stop.received)

    def _save_or_fail(self, stopped: str) -> None:
        """Saves what is not saved yet, or raises what says why the run has stopped unsaved."""
        if self.saver.saved_at != self.statistics.clock.step and not self._save():
            raise RunFailed(
                f"{stopped}, {what_is_unsaved(self.saver, self.logger)}; to go on from there: "
                f"{self._command_to_go_on}"
            )

    @property
    def _command_to_go_on(self) -> str:
        return command_to_go_on(self.logger.run_dir, self.config.env.task_suite)

    def _evaluate(self) -> EvaluationResult:
        with self.statistics.rates.paused():
            policy = policy_of(self.state.agent.average_actor)
            result = self.evaluations.evaluate(policy, self.statistics.clock.counters)
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
            lambda: save_crash_dump(run_dir, self.state, self.config.sac.batch_size, findings),
            "the run ends without",
        )
        more = f" and {len(findings) - 3} more" if len(findings) > 3 else ""
        step = self.statistics.clock.step
        raise RunFailed(
            f"stopped after {step} steps, as {'; '.join(findings[:3])}{more}. "
            f"What led to it is in {folder}; {self.saver.newest}"
        )
