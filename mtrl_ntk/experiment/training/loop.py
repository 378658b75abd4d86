"""The training loop."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mtrl_ntk.errors import Interrupted, RunFailed
from mtrl_ntk.experiment.agents import make_agent, make_replay, policy_of
from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.checkpoints.run_state import capture, log_position, make_archive, restore
from mtrl_ntk.experiment.config import RunConfig, to_dict
from mtrl_ntk.experiment.evaluation.episodes import make_evaluation_envs, protocol
from mtrl_ntk.experiment.files.lock import RunLock
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.metrics import (
    EpisodeStatistics,
    MetricMeans,
    Rates,
    WorkerRestarts,
    scalars,
)
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.training.disk_space import check_space, disk_need
from mtrl_ntk.experiment.training.eta import DurationEstimate
from mtrl_ntk.experiment.training.evaluations import EvaluationStopped, TrainingEvaluations
from mtrl_ntk.experiment.training.health import Health, require_health
from mtrl_ntk.experiment.training.kernel_diagnoses import diagnose_kernels
from mtrl_ntk.experiment.training.learner import Learner, recorder_for
from mtrl_ntk.experiment.training.messages import (
    announce,
    announce_resumption,
    command_to_go_on,
    what_is_unsaved,
)
from mtrl_ntk.experiment.training.saver import Saver
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.experiment.types import Counters, EvaluationResult, FloatArray
from mtrl_ntk.rl.envs import (
    SimulationError,
    StepResults,
    WorkerError,
    make_envs,
)

Scalar = TypeVar("Scalar", bound=np.generic)


class Run:
    """Environments, replay, agent and logs of one run, and the loop that ties them together.

    Args:
        config: The run's configuration.
        run_dir: Where logs and the checkpoints go.
        device: Where the agent learns.
        stack: Closes what the run opens.
        start: What the run goes on from; None for a new one.
        lock: What keeps others out of the folder; taken before anything is written there.
    """

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        device: torch.device,
        stack: ExitStack,
        start: Start | None = None,
        lock: RunLock | None = None,
    ) -> None:
        self.config, self.loop = config, config.loop
        self.protocol = protocol(config.env, config.evaluation)
        names = config.env.task_names
        self.replay = make_replay(config, len(names), device)
        self.agent = make_agent(config, len(names), device)
        check_space(disk_need(config, self.agent, self.replay), run_dir)
        # So early, so that a stop is saved even if it is asked for while the environments start.
        self._stop = stack.enter_context(StopRequest())
        if lock is not None:
            lock.take()
        position = log_position(start)
        self.logger = stack.enter_context(RunLogger(run_dir, names, position, to_dict(config)))
        self.archive = make_archive(run_dir, self.loop.keep_checkpoints, start)
        self.saver = Saver(self.archive, self.logger.outages)
        self.progress = stack.enter_context(Progress(self.loop.total_steps, names))
        self.restarts = restarts = WorkerRestarts(self.progress.message)
        self.envs = stack.enter_context(
            closing(make_envs(config.env, seed=config.seed, report=restarts))
        )
        evaluation_envs = stack.enter_context(
            closing(
                make_evaluation_envs(
                    config.env, config.evaluation, seed=config.seed, report=restarts
                )
            )
        )
        self.evaluations = TrainingEvaluations(
            config, evaluation_envs, self.logger, self.progress, self._stop
        )
        self.episodes = EpisodeStatistics(len(names))
        self.metrics, self.rates = MetricMeans(), Rates()
        self.learner = Learner(
            self.agent,
            self.replay,
            self.metrics,
            recorder=recorder_for(device, cuda_graph=config.cuda_graph),
            compiled=config.compile,
        )
        self.health = Health(names)
        self.estimate = DurationEstimate(config, len(names))
        self.step = self.updates = 0
        self.observations: FloatArray = np.zeros(0, np.float32)
        self._started = time.perf_counter()
        self._start = start

    @property
    def counters(self) -> Counters:
        """How far the run is."""
        return Counters(
            vector_steps=self.step,
            env_steps=self.step * self.envs.num_envs,
            updates=self.updates,
            seconds=time.perf_counter() - self._started,
        )

    def go_on_from(self, counters: Counters) -> None:
        """Takes over how far an interrupted run was."""
        self.step, self.updates = counters.vector_steps, counters.updates
        self._started = time.perf_counter() - counters.seconds

    def train(self) -> EvaluationResult:
        """Runs the loop to its end; returns the last evaluation.

        The agent learns while the environments step, from transitions up to the step before: the
        lag of one step is the same whether there are workers or not.

        Raises:
            Interrupted: If a signal asked to stop; the run is saved by then.
            RunFailed: If the environments cannot go on; the run is saved by then.
        """
        announce(self, self._start)
        self._begin()
        try:
            # What an interruption has left undone.
            if (actions := self.envs.pending_actions) is not None:
                self._end_step(actions)
            self._evaluate_and_save()
            while self.step < self.loop.total_steps:
                self._take_step()
                self._evaluate_and_save()
                self._stop_if_asked()
            return self._finish()
        except EvaluationStopped:
            self._stop_if_asked()
            raise
        except (SimulationError, WorkerError) as error:
            self._save_or_fail(f"{error}; stopped after {self.step} steps")
            raise RunFailed(
                f"{error}; saved after {self.step} steps; to go on: {command_to_go_on(self)}"
            ) from error

    def _begin(self) -> None:
        if self._start is None or self._start.found is None:
            self.observations, _ = self.envs.reset()
            return
        remarks = restore(self, self._start.found)
        if self.envs.pending_actions is None:
            self.saver.saved_at = self.step
        announce_resumption(self, self._start, self._start.found.folder, remarks)
        if self._start.continues and (later := self.archive.remove_after(self.step)):
            names = ", ".join(path.name for path in later)
            self.progress.message(f"removed what came after it: {names}")

    def _take_step(self) -> None:
        self.step += 1
        actions = self._choose_actions(self.observations)
        self.envs.step_async(actions)
        self._update_agent()
        self._end_step(actions)

    def _end_step(self, actions: FloatArray) -> None:
        results = self.envs.step_wait()
        self._remember(self.observations, actions, results)
        self.observations = results[0]
        if (seconds := self.estimate.after(self.counters)) is not None:
            self.progress.estimate(seconds)
        if self._is_due(self.loop.log_every):
            self._log()

    def _evaluate_and_save(self) -> None:
        """Evaluates and saves what is due."""
        evaluation_is_due = (
            self._is_due(self.config.evaluation.evaluate_every) and self.evaluations.at != self.step
        )
        if evaluation_is_due:
            self._evaluate()
        save_is_due = (
            evaluation_is_due
            or self._is_due(self.loop.checkpoint_every)
            or (self.saver.failure is not None and self._is_due(self.loop.log_every))
        )
        # The last step is saved when all of it is done.
        if save_is_due and self.saver.saved_at != self.step < self.loop.total_steps:
            self._save()

    def _finish(self) -> EvaluationResult:
        """Does what is done at the end, whatever the intervals.

        The state that is saved is the one before: a longer run can go on from it as if it had never
        ended, and takes what only the end has brought out of the logs.
        """
        position = self.logger.position(self.step)
        result = self.evaluations.last
        if result is None or self.evaluations.at != self.step:
            result = self._evaluate()
        state = capture(self) | {"log": asdict(position)}
        if not self._is_due(self.loop.log_every):
            self._log()
        self.logger.log_results(self.counters, to_dict(self.config))
        require_health(self)
        with self.rates.paused():
            self.saver.save(self, state, finished=True)
        return result

    def _stop_if_asked(self) -> None:
        if self._stop.received is None:
            return
        stopped = f"stopped by {self._stop.received.name} after {self.step} steps"
        self._save_or_fail(stopped)
        raise Interrupted(f"{stopped}; to go on: {command_to_go_on(self)}", self._stop.received)

    def _save_or_fail(self, stopped: str) -> None:
        """Saves what is not saved yet, or raises what says why the run has stopped unsaved."""
        if self.saver.saved_at != self.step and not self._save():
            raise RunFailed(
                f"{stopped}, {what_is_unsaved(self)}; to go on from there: {command_to_go_on(self)}"
            )

    def _choose_actions(self, observations: FloatArray) -> FloatArray:
        if self.step <= self.loop.warmstart_steps:
            sampled: FloatArray = self.envs.action_space.sample()
            return sampled
        policy = policy_of(self.agent, deterministic=False)
        return policy(self._by_task(observations)).reshape(self.envs.num_envs, -1)

    def _update_agent(self) -> None:
        due = int((self.step - self.loop.warmstart_steps) * self.loop.updates_per_step)
        while self.updates < due:
            self.updates += 1
            self.learner.update()
            if self.loop.kernel_every and self.updates % self.loop.kernel_every == 0:
                self._diagnose_kernels()

    def _diagnose_kernels(self) -> None:
        with self.rates.paused():
            diagnose_kernels(
                self.config,
                self.agent,
                self.replay,
                self.envs.task_names,
                self.counters,
                self.logger,
            )

    def _remember(
        self, observations: FloatArray, actions: FloatArray, results: StepResults
    ) -> None:
        next_observations, rewards, terminations, _, infos = results
        following = infos.get("final_obs", next_observations)
        transitions = (
            self._by_task(observations),
            self._by_task(actions),
            self._by_task(rewards),
            self._by_task(following),
        )
        keep = self.health.keepable(self._by_task(infos["valid"]), *transitions)
        self.replay.add(*transitions, self._by_task(terminations), keep)
        self.episodes.add(infos)

    def _by_task(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Views ``[tasks * copies, ...]`` as ``[tasks, copies, ...]``."""
        return values.reshape(self.envs.num_tasks, self.envs.envs_per_task, *values.shape[1:])

    def _log(self) -> None:
        names = self.envs.task_names
        env_rate, update_rate = self.rates.lap(self.counters)
        success_rates = self.episodes.success_rates
        self.progress.update(
            self.step, env_rate, update_rate, dict(zip(names, success_rates.tolist(), strict=True))
        )
        if self.metrics.empty:
            return
        means = self.metrics.fetch()
        self.health.take_row(means)
        values = means | {
            "skipped/transitions": self.health.take_lost(),
            "charts/training_success_rate": success_rates,
            "charts/training_return": self.episodes.mean_returns,
            "charts/env_steps_per_second": np.array(env_rate),
            "charts/updates_per_second": np.array(update_rate),
            "charts/worker_restarts": np.array(self.restarts.count),
        }
        self.logger.log_training(self.counters, scalars(values, names))
        require_health(self)

    def _is_due(self, interval: int) -> bool:
        return interval > 0 and self.step > 0 and self.step % interval == 0

    def _evaluate(self) -> EvaluationResult:
        with self.rates.paused():
            policy = policy_of(self.agent, deterministic=True)
            return self.evaluations.evaluate(policy, self.counters)

    def _save(self) -> bool:
        require_health(self)
        with self.rates.paused():
            return self.saver.save(self, capture(self))
