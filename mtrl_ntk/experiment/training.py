"""The training loop."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mtrl_ntk.experiment.agents import (
    CHECKPOINT,
    CONFIG,
    make_agent,
    policy_of,
    resolve_device,
    stream_seed,
)
from mtrl_ntk.experiment.checkpoint import save_checkpoint
from mtrl_ntk.experiment.evaluation import (
    EvaluationResult,
    FloatArray,
    evaluate,
    make_evaluation_envs,
    protocol,
)
from mtrl_ntk.experiment.logging import Counters, RunLogger, write_run_info
from mtrl_ntk.experiment.monitor import EpisodeStatistics, MetricMeans, Rates, scalars
from mtrl_ntk.experiment.plots import plot_run
from mtrl_ntk.experiment.progress import Progress
from mtrl_ntk.rl.envs import (
    ACTION_DIM,
    OBSERVATION_DIM,
    StepResults,
    make_envs,
    resolved_workers,
    task_names,
    usable_cores,
)
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer

if TYPE_CHECKING:
    from mtrl_ntk.experiment.config import RunConfig

Scalar = TypeVar("Scalar", bound=np.generic)

_TIMED_STEPS = 50
"""Steps with updates that are timed for the estimate of the run's duration."""


@dataclass(frozen=True)
class LoopConfig:
    """How long the loop runs and what it does when; steps are vector steps."""

    total_steps: int = 2_000_000
    """Vector steps of the whole run; one steps every environment once."""
    warmstart_steps: int = 4_000
    """Vector steps of uniformly random actions before the first update."""
    updates_per_step: float = 1.0
    """Gradient updates per vector step; below 1, an update every so many steps."""
    replay_capacity: int = 100_000
    """Transitions kept per task."""
    log_every: int = 1_000
    """Vector steps between rows of training.csv and TensorBoard scalars."""


def train(config: RunConfig) -> EvaluationResult:
    """Trains an agent as configured, and leaves logs, checkpoint and plots in the run's folder.

    Returns:
        The last evaluation.

    Raises:
        UserError: If the run cannot start as configured.
    """
    from mtrl_ntk.experiment.config import run_folder, save

    run_dir = run_folder(config, datetime.now().astimezone())
    device = resolve_device(config.device)
    torch.set_num_threads(config.threads or _free_cores(resolved_workers(config.env)))
    with ExitStack() as stack:
        run = Run(config, run_dir, device, stack)
        save(config, run_dir / CONFIG)
        write_run_info(run_dir, run.protocol)
        result = run.train()
    run.progress.final_table(
        result,
        run_dir=run_dir,
        checkpoint=run.checkpoint_dir,
        plots=plot_run(run_dir),
        seconds=run.counters.seconds,
    )
    return result


def _free_cores(workers: int) -> int:
    """Threads that do not compete with the workers; two busy teams on a core stall each other."""
    return max(1, usable_cores() - workers)


class Run:
    """Environments, replay, agent and logs of one run, and the loop that ties them together.

    Args:
        config: The run's configuration.
        run_dir: Where logs and the checkpoint go.
        device: Where the agent learns.
        stack: Closes what the run opens.
    """

    def __init__(
        self, config: RunConfig, run_dir: Path, device: torch.device, stack: ExitStack
    ) -> None:
        self.config, self.loop = config, config.loop
        self.checkpoint_dir = run_dir / CHECKPOINT
        self.protocol = protocol(config.env, config.evaluation)
        names = task_names(config.env.benchmark, config.env.tasks or None)
        self.replay = self._make_replay(len(names), device)
        self.agent = make_agent(config, len(names), device)
        self.logger = stack.enter_context(RunLogger(run_dir, names))
        self.envs = stack.enter_context(closing(make_envs(config.env, seed=config.seed)))
        self.evaluation_envs = stack.enter_context(
            closing(make_evaluation_envs(config.env, config.evaluation, seed=config.seed))
        )
        self.progress = stack.enter_context(Progress(self.loop.total_steps, names))
        self.episodes = EpisodeStatistics(len(names))
        self.metrics, self.rates = MetricMeans(), Rates()
        self.step = self.updates = 0
        self._started = time.perf_counter()
        self._warmed_up = self.counters

    def _make_replay(self, num_tasks: int, device: torch.device) -> MultiTaskReplayBuffer:
        return MultiTaskReplayBuffer(
            num_tasks,
            self.loop.replay_capacity,
            OBSERVATION_DIM,
            ACTION_DIM,
            device=device,
            generator=torch.Generator(device).manual_seed(stream_seed(self.config.seed, "replay")),
        )

    @property
    def counters(self) -> Counters:
        """How far the run is."""
        return Counters(
            vector_steps=self.step,
            env_steps=self.step * self.envs.num_envs,
            updates=self.updates,
            seconds=time.perf_counter() - self._started,
        )

    def train(self) -> EvaluationResult:
        """Runs the loop to its end; returns the last evaluation.

        The agent learns while the environments step, from transitions up to the step before: the
        lag of one step is the same whether there are workers or not.
        """
        self._announce()
        observations, _ = self.envs.reset()
        while self.step < self.loop.total_steps:
            self.step += 1
            actions = self._choose_actions(observations)
            self.envs.step_async(actions)
            self._update_agent()
            results = self.envs.step_wait()
            self._remember(observations, actions, results)
            observations = results[0]
            self._estimate_duration()
            if self._is_due(self.loop.log_every):
                self._log()
            if self._is_due(self.config.evaluation.evaluate_every):
                result = self._evaluate()
        return result

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
            batch = self.replay.sample(self.config.sac.batch_size)
            self.metrics.add(self.agent.update(batch, diagnose=self.metrics.empty))

    def _remember(
        self, observations: FloatArray, actions: FloatArray, results: StepResults
    ) -> None:
        next_observations, rewards, terminations, _, infos = results
        self.replay.add(
            self._by_task(observations),
            self._by_task(actions),
            self._by_task(rewards),
            self._by_task(infos.get("final_obs", next_observations)),
            self._by_task(terminations),
            self._by_task(infos["valid"]),
        )
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
        values = self.metrics.fetch() | {
            "charts/training_success_rate": success_rates,
            "charts/training_return": self.episodes.mean_returns,
            "charts/env_steps_per_second": np.array(env_rate),
            "charts/updates_per_second": np.array(update_rate),
        }
        self.logger.log_training(self.counters, scalars(values, names))

    def _is_due(self, interval: int) -> bool:
        return self.step % interval == 0 or self.step == self.loop.total_steps

    def _evaluate(self) -> EvaluationResult:
        with self.rates.paused():
            result = evaluate(
                policy_of(self.agent, deterministic=True),
                self.evaluation_envs,
                episodes=self.config.evaluation.evaluation_episodes,
                seed=self.config.seed,
            )
            self.logger.log_evaluation(self.counters, result)
            self.progress.evaluated(result)
            self._save(result)
        return result

    def _save(self, result: EvaluationResult) -> None:
        metadata = {
            "task_names": list(result.task_names),
            "protocol": self.protocol,
            "counters": asdict(self.counters),
            "mean_success_rate": result.mean_success_rate,
        }
        save_checkpoint(self.checkpoint_dir, self.agent.state_dict(), metadata)

    def _announce(self) -> None:
        self.progress.message(
            f"{self.config.method} on {self.envs.num_tasks} tasks, seed {self.config.seed}, on "
            f"{self.agent.device.type}; replay of {self.loop.replay_capacity} transitions per "
            f"task in {self.replay.nbytes / 1e6:.0f} MB; logs in {self.logger.run_dir}"
        )

    def _estimate_duration(self) -> None:
        """Says how long the run will take, once enough steps with updates were timed.

        Evaluations count with episodes of full length, at the speed of the steps without updates.
        """
        since_warmstart = self.step - self.loop.warmstart_steps
        if since_warmstart == 0:
            self._warmed_up = self.counters
        elif since_warmstart == _TIMED_STEPS:
            now = self.counters
            seconds_per_step = (now.seconds - self._warmed_up.seconds) / _TIMED_STEPS
            remaining = self.loop.total_steps - self.step
            self.progress.estimate(
                now.seconds + remaining * seconds_per_step + self._evaluation_seconds()
            )

    def _evaluation_seconds(self) -> float:
        evaluation = self.config.evaluation
        count = -(-self.loop.total_steps // evaluation.evaluate_every)
        episodes = count * evaluation.evaluation_episodes * self.envs.num_tasks
        seconds_per_env_step = self._warmed_up.seconds / self._warmed_up.env_steps
        return episodes * self.config.env.horizon * seconds_per_env_step
