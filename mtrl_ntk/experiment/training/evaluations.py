"""Evaluations, and videos, of the policy while it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.evaluation.episodes import evaluate
from mtrl_ntk.experiment.files.layout import VIDEOS
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.training.loop import EvaluationStopped
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.experiment.training.videos import TrainingVideos
from mtrl_ntk.experiment.types import Counters, EvaluationResult, PolicyFunction
from mtrl_ntk.rl.envs import MultiTaskVectorEnv
from mtrl_ntk.rl.types import FloatArray


class TrainingEvaluations:
    """Evaluates a run's policy in environments of its own, films it, and logs both.

    Args:
        config: The run's configuration.
        policy: The policy as it is at present.
        task_names: Names of the tasks.
        make_envs: Makes environments that nothing else steps, when they are needed first: they
            take seconds, which the first update would wait for.
        logger: Where results and videos go.
        progress: What shows them.
        stop: What ends an evaluation early.

    Attributes:
        last: The last evaluation; None before the first.
        at: Vector steps at which it was; below zero before the first.
    """

    def __init__(
        self,
        config: RunConfig,
        policy: Callable[[], PolicyFunction],
        task_names: tuple[str, ...],
        make_envs: Callable[[], MultiTaskVectorEnv],
        logger: RunLogger,
        progress: Progress,
        stop: StopRequest,
    ) -> None:
        self.last: EvaluationResult | None = None
        self.at = -1
        self._config, self._seed = config.evaluation, config.seed
        self._policy, self._make_envs = policy, make_envs
        self._logger, self._progress, self._stop = logger, progress, stop
        self._videos = TrainingVideos(config, task_names, logger.run_dir, progress.message)

    @cached_property
    def _envs(self) -> MultiTaskVectorEnv:
        return self._make_envs()

    def evaluate(self, counters: Counters) -> EvaluationResult:
        """Evaluates the policy, and films it if that is due.

        Raises:
            EvaluationStopped: If a stop is asked for before the end.
        """
        policy = self._until_stopped(self._policy())
        self.last = evaluate(
            policy, self._envs, episodes=self._config.evaluation_episodes, seed=self._seed
        )
        before, self.at = self.at, counters.vector_steps
        self._logger.log_evaluation(counters, self.last)
        self._progress.evaluated(self.last)
        if self._videos.is_due(self.at, before):
            self._film(policy, counters)
        return self.last

    @property
    def why_enough(self) -> str:
        """Why the last evaluation is good enough to end the run, in words."""
        success = math.nan if self.last is None else self.last.mean_success_rate
        return f"a mean success rate of {success:.3g} is enough"

    def success_at(self, step: int) -> float | None:
        """Mean success rate of the evaluation at a vector step; None if the last is another."""
        return self.last.mean_success_rate if self.last and self.at == step else None

    def state_of_last(self) -> dict[str, Any] | None:
        """The last evaluation, for JSON."""
        return None if self.last is None else self.last.to_json()

    def restore_last(self, state: Mapping[str, Any] | None) -> None:
        """Goes on after an evaluation that :meth:`state_of_last` has described."""
        self.last = None if state is None else EvaluationResult.from_json(state)

    def restore_at(self, state: int) -> None:
        """Goes on after an evaluation at so many vector steps."""
        self.at = int(state)

    def _film(self, policy: PolicyFunction, counters: Counters) -> None:
        def film() -> None:
            recording = self._videos.record(policy, counters.vector_steps)
            if recording is not None:
                self._logger.log_video(counters, "videos/evaluation", recording.gif)
                self._progress.message(f"video: {recording.path}")

        folder = self._logger.run_dir / VIDEOS
        self._logger.outages.attempt(str(folder), film, "this video is left out")

    def _until_stopped(self, policy: PolicyFunction) -> PolicyFunction:
        """The policy, but a stop that is asked for need not wait for the evaluation's end."""

        def act(observations: FloatArray) -> FloatArray:
            if self._stop.received is not None:
                raise EvaluationStopped
            return policy(observations)

        return act
