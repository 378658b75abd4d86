"""Options of the environments, and what they mean on this machine."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.suites.registry import DEFAULT_SUITE, SUITES, find_suite
from mtrl_ntk.rl.suites.suite import Suite
from mtrl_ntk.settings import MOST_PROCESSES, Settings, number, setting

_OF_SUITE: Any = None
"""Where nothing is asked for, the suite says what is meant; a configuration then has its answer."""


@dataclass(frozen=True)
class EnvConfig(Settings):
    """Which tasks are trained, and under which rules."""

    suite: str = setting(DEFAULT_SUITE.name, decides="results")
    """Where tasks come from: metaworld, or your own, as module:function or file.py:function."""
    benchmark: str = setting(_OF_SUITE, of_suite=True, decides="results")
    """Benchmark of the suite whose tasks are trained."""
    tasks: tuple[str, ...] = setting((), decides="results")
    """Task names such as reach-v3,push-v3; when given, they replace the benchmark's."""
    envs_per_task: int = number(1, at_least=1, limit=MOST_PROCESSES, decides="results")
    """Copies of each task's environment that are stepped together."""
    horizon: int = number(_OF_SUITE, at_least=1, decides="results")
    """Environment steps after which an episode is truncated; at most the suite's default."""
    reward_version: str = setting(_OF_SUITE, of_suite=True, decides="results")
    """Reward functions of the suite."""
    reward_normalization: Literal["none", "running_variance"] = setting("none", decides="results")
    """Divide training rewards by each environment's running standard deviation, or do not."""
    goal_mode: Literal["resampled", "fixed"] = setting("resampled", decides="results")
    """Goals of an episode: one of the task's 50 drawn at each reset, or one fixed per seed."""
    features: str = setting(_OF_SUITE, of_suite=True, decides="results")
    """What networks see: raw observations, these normalised by running moments, or the suite's."""
    workers: int = number(-1, at_least=-1, limit=MOST_PROCESSES, decides="nothing")
    """Processes that step the environments; 0 steps them in the learner's, -1 chooses by cores."""
    worker_timeout: float = number(30.0, above=0, limit=10**6, decides="nothing")
    """Seconds without a sign of life after which a worker is killed and replaced."""
    worker_restarts: int = number(5, at_least=0, decides="nothing")
    """Replacements of lost workers allowed within restart_window; one more saves and ends the run.
    """
    restart_window: int = number(1000, at_least=1, decides="nothing")
    """Vector steps within which replacements of workers are counted."""
    lean: bool = setting(True, decides="nothing")
    """Save the Python around MuJoCo that changes nothing: bit-identical results in less time."""

    def __post_init__(self) -> None:
        suite = self._suite_if_there
        if suite is not None:
            self._ask(suite)
        super().__post_init__()

    @property
    def _suite_if_there(self) -> Suite | None:
        """The suite; None for a user's that is not imported, of a run that is only read."""
        if self.suite not in SUITES and self.tasks:
            return None
        return find_suite(self.suite)

    def _ask(self, suite: Suite) -> None:
        """Takes from the suite what was left open, and checks what was not."""
        for each in fields(self):
            if not each.metadata.get("of_suite"):
                continue
            if (value := getattr(self, each.name)) is _OF_SUITE:
                object.__setattr__(self, each.name, suite.default(each.name))
            else:
                suite.check_choice(each.name, value)
        if self.horizon is _OF_SUITE:
            object.__setattr__(self, "horizon", suite.max_horizon)
        elif isinstance(self.horizon, Real) and not 1 <= self.horizon <= suite.max_horizon:
            raise ConfigError(
                f"horizon is {self.horizon}; it must be from 1 to {suite.max_horizon}"
            )
        if suite.source and not self.tasks:
            # So that what is written of a run can be read without them.
            object.__setattr__(self, "tasks", suite.task_names(self.benchmark))

    @property
    def task_suite(self) -> Suite:
        """The suite of the tasks; a ``ConfigError`` where it is not imported."""
        return find_suite(self.suite)

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that are meant, in order; a ``ConfigError`` where there are no such."""
        if self.suite not in SUITES and self.tasks:
            return self.tasks
        return self.task_suite.task_names(self.benchmark, self.tasks or None)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolved_workers(config: EnvConfig, cores: int | None = None) -> int:
    """Number of worker processes that a configuration means.

    Left to choose, workers take a quarter of the cores, and at least one if there are two: on the
    CPU an update takes many times as long as a step of all environments. Where there is CUDA, all
    cores but one are theirs.

    A worker of a ``multiprocessing.Pool`` may start no processes, and steps them itself.

    Args:
        config: The user's options.
        cores: Cores that there are; by default those of this machine.

    Raises:
        ConfigError: If there are to be workers, and may be none.
    """
    if multiprocessing.current_process().daemon:
        if config.workers > 0:
            raise ConfigError(
                f"workers is {config.workers}, but this process belongs to a pool and may start "
                "none; use workers 0"
            )
        return 0
    if config.workers >= 0:
        return config.workers
    import torch  # here, so that workers need not load it

    cores = cores or usable_cores()
    wanted = cores if torch.cuda.is_available() else cores // 4
    num_envs = len(config.task_names) * config.envs_per_task
    return min(max(wanted, 1), cores - 1, num_envs)
