"""Meta-World tasks as one vector environment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.env_workers import BundleSpec, EnvBundle, Stepper, WorkerError, WorkerPool
from mtrl_ntk.rl.task_env import (
    ACTION_DIM,
    BENCHMARKS,
    OBSERVATION_DIM,
    EpisodeRules,
    GoalMode,
    RewardVersion,
    TaskEnv,
    task_names,
)

__all__ = [
    "ACTION_DIM",
    "BENCHMARKS",
    "OBSERVATION_DIM",
    "EnvConfig",
    "EpisodeRules",
    "MultiTaskVectorEnv",
    "TaskEnv",
    "WorkerError",
    "make_envs",
    "resolved_workers",
    "task_names",
    "usable_cores",
]

StepResults = tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
]
"""Observations, rewards, terminations, truncations and infos of a step."""


@dataclass(frozen=True)
class EnvConfig:
    """Which tasks are trained, and under which rules."""

    benchmark: Literal["MT10", "MT25", "MT50"] = "MT10"
    """Meta-World benchmark whose tasks are trained."""
    tasks: tuple[str, ...] = ()
    """Task names such as reach-v3,push-v3; when given, they replace the benchmark's."""
    envs_per_task: int = 1
    """Copies of each task's environment that are stepped together."""
    horizon: int = 500
    """Environment steps after which an episode is truncated (1 to 500)."""
    reward_version: Literal["v1", "v2"] = "v2"
    """Meta-World reward functions."""
    goal_mode: Literal["resampled", "fixed"] = "resampled"
    """Goals of an episode: one of the task's 50 drawn at each reset, or one fixed per seed."""
    workers: int = -1
    """Processes that step the environments; 0 steps them in the learner's, -1 chooses by cores."""


class MultiTaskVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]):
    """Several copies of several tasks, stepped together under Gymnasium's vector interface.

    Environment ``task * envs_per_task + copy`` is a copy of a task, so that for any result ``x``
    ``x.reshape(num_tasks, envs_per_task, ...)`` is its view by tasks. Results are the same bit for
    bit whatever the number of workers.

    An ended episode's environment is reset within the same step. The observation that the step
    returns for it is then that of the new episode; the next observation to learn from is
    ``infos["final_obs"]``, present when any episode ended. In its other rows it equals the returned
    observations, so a learner stores::

        next_observations = infos.get("final_obs", observations)

    and bootstraps through truncations, that is wherever ``terminations`` is False. Rows where
    ``infos["valid"]`` is False must not be stored.

    Args:
        tasks: Task names, in the order of the task axis.
        seed: Non-negative seed of all goals and draws.
        envs_per_task: Copies of each task.
        horizon: Environment steps after which an episode is truncated, 1 to 500.
        reward_version: Meta-World reward functions, ``v1`` or ``v2``.
        goal_mode: ``resampled``, ``fixed`` or ``in_order``; see ``EpisodeRules``.
        terminate_on_success: Whether an episode terminates at its first success.
        workers: Processes that step the environments; 0 steps them in this one.
        timeout: Seconds after which a step of the workers raises a ``WorkerError``.

    Attributes:
        task_names: Names of the tasks, in the order of the task axis.
        num_tasks: Number of tasks.
        envs_per_task: Copies of each task.
        num_envs: ``num_tasks * envs_per_task``.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        seed: int,
        envs_per_task: int = 1,
        horizon: int = 500,
        reward_version: RewardVersion = "v2",
        goal_mode: GoalMode = "resampled",
        terminate_on_success: bool = False,
        workers: int = 0,
        timeout: float = 60.0,
    ) -> None:
        # Until the workers run there is nothing for the base class's __del__ to close.
        self.closed = True
        if envs_per_task < 1:
            raise ConfigError(f"envs_per_task must be at least 1, got {envs_per_task}")
        if seed < 0:
            raise ConfigError(f"seed must be non-negative, got {seed}")
        if workers < 0:
            raise ConfigError(f"workers must be at least 0, got {workers}")
        self.task_names = task_names(tasks=tasks)
        self.num_tasks = len(self.task_names)
        self.envs_per_task = envs_per_task
        self.num_envs = self.num_tasks * envs_per_task
        self._set_spaces(seed)
        rules = EpisodeRules(horizon, reward_version, goal_mode, terminate_on_success)
        spec = BundleSpec(self.task_names, envs_per_task, rules, seed)
        self._stepper: Stepper = WorkerPool(spec, workers, timeout) if workers else EnvBundle(spec)
        self._is_reset = False
        self._is_stepping = False
        self.closed = False

    def _set_spaces(self, seed: int) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(-np.inf, np.inf, (OBSERVATION_DIM,), np.float32)
        self.single_action_space = Box(-1.0, 1.0, (ACTION_DIM,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.action_space.seed(seed)

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts new episodes everywhere.

        Args:
            seed: Draws the goals anew and restarts every stream; None continues the streams.
            options: Not used.

        Returns:
            Observations ``[num_envs, 39]`` and no infos.
        """
        self._check_idle()
        if seed is not None:
            self.action_space.seed(seed)
        self._stepper.reset(seed)
        self._is_reset = True
        return self._stepper.records["observation"].copy(), {}

    def step(self, actions: ArrayLike) -> StepResults:
        """Steps all environments; ``step_async`` and ``step_wait`` in one."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: ArrayLike) -> None:
        """Begins a step with ``actions [num_envs, 4]``, clipped to [-1, 1], and returns at once.

        Workers step while the caller does other things; without workers ``step_wait`` does it all.
        """
        if not self._is_reset:
            raise RuntimeError("step before the first reset()")
        self._check_idle()
        actions = np.asarray(actions, dtype=np.float32)
        if actions.shape != (self.num_envs, ACTION_DIM):
            raise ValueError(
                f"actions must have shape {(self.num_envs, ACTION_DIM)}, got {actions.shape}"
            )
        self._stepper.records["action"] = actions
        self._stepper.step_async()
        self._is_stepping = True

    def step_wait(self) -> StepResults:
        """Ends the step that ``step_async`` began.

        Returns:
            Observations ``[num_envs, 39]``; rewards, terminations and truncations ``[num_envs]``;
            and infos, which always hold

            - ``success [num_envs]`` float32: whether the episode has succeeded so far, and for an
              ended episode whether it succeeded;
            - ``valid [num_envs]`` bool: False where the action or the simulation was broken,

            and when any episode ended

            - ``final_obs [num_envs, 39]``: the step's own next observations;
            - ``final_info``: ``success`` and ``episode`` with the undiscounted return ``r`` and the
              length ``l`` in steps, zero where not ended;
            - for each of these keys the mask ``_key [num_envs]`` of the environments that ended.
        """
        if not self._is_stepping:
            raise RuntimeError("step_wait() without step_async()")
        self._stepper.step_wait()
        self._is_stepping = False
        records = self._stepper.records
        infos: dict[str, Any] = {
            "success": records["success"].copy(),
            "valid": records["valid"].copy(),
        }
        ended = records["terminated"] | records["truncated"]
        if ended.any():
            infos |= _final_infos(records, ended)
        return (
            records["observation"].copy(),
            records["reward"].copy(),
            records["terminated"].copy(),
            records["truncated"].copy(),
            infos,
        )

    def _check_idle(self) -> None:
        if self.closed:
            raise RuntimeError("the environments are closed")
        if self._is_stepping:
            raise RuntimeError("step_async() still waits for its step_wait()")

    def close_extras(self, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Closes the environments and ends the workers, also in the middle of a step."""
        self._stepper.close()


def _final_infos(records: NDArray[Any], ended: NDArray[np.bool_]) -> dict[str, Any]:
    episode = {
        "r": np.where(ended, records["episode_return"], 0.0),
        "_r": ended,
        "l": np.where(ended, records["episode_length"], 0),
        "_l": ended,
    }
    return {
        "final_obs": records["final_observation"].copy(),
        "_final_obs": ended,
        "final_info": {
            "success": np.where(ended, records["success"], np.float32(0.0)),
            "_success": ended,
            "episode": episode,
            "_episode": ended,
        },
        "_final_info": ended,
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolved_workers(config: EnvConfig) -> int:
    """Number of worker processes that a configuration means on this machine.

    Left to choose, one core is kept for the learner.
    """
    if config.workers >= 0:
        return config.workers
    num_envs = len(task_names(config.benchmark, config.tasks or None)) * config.envs_per_task
    return min(usable_cores() - 1, num_envs)


def make_envs(config: EnvConfig, *, seed: int, **overrides: Any) -> MultiTaskVectorEnv:  # noqa: ANN401
    """Makes the environments that a configuration describes.

    Args:
        config: The user's options.
        seed: Non-negative seed of all goals and draws.
        **overrides: Arguments of ``MultiTaskVectorEnv`` to use instead of the configuration's, such
            as ``goal_mode="in_order"`` and ``terminate_on_success=True`` for evaluation.
    """
    arguments: dict[str, Any] = {
        "tasks": task_names(config.benchmark, config.tasks or None),
        "envs_per_task": config.envs_per_task,
        "horizon": config.horizon,
        "reward_version": config.reward_version,
        "goal_mode": config.goal_mode,
        "workers": resolved_workers(config),
    } | overrides
    return MultiTaskVectorEnv(seed=seed, **arguments)
