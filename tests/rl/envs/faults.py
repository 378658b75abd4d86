"""Environments in worker processes that fail at a chosen step, so often and in a chosen way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl_ntk.rl.envs.task_env import Step, TaskEnv
from mtrl_ntk.rl.suites.suite import EpisodeRules


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and where."""

    how: str
    """Key of ``WAYS``."""
    task: str
    episode: int
    step: int
    """Steps of the episode before the one that fails."""
    log: Path
    """Grows by a byte each time."""
    times: int = 1_000_000


def _raise() -> None:
    raise ValueError("out of\nrange")


def _hang() -> None:
    while True:
        pass


WAYS: dict[str, Callable[[], None]] = {
    "raises": _raise,
    "hangs": _hang,
    "stops": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def faulty(fault: Fault) -> type[EpisodeRules]:
    """Rules that bring a fault with them, but only into other processes."""

    class FaultyRules(EpisodeRules):
        def __reduce__(self) -> tuple[Any, ...]:
            fields = (self.horizon, self.reward_version, self.goal_mode, self.terminate_on_success)
            return _install, (fault, fields)

    return FaultyRules


def _install(fault: Fault, fields: tuple[Any, ...]) -> EpisodeRules:
    plain_step = TaskEnv.step

    def step(env: TaskEnv, action: Any) -> Step:  # noqa: ANN401 - whatever looks like an array
        here = (env.name, env._episodes, env._length)
        if here == (fault.task, fault.episode, fault.step) and _count(fault.log) < fault.times:
            with fault.log.open("ab") as file:
                file.write(b"x")
            WAYS[fault.how]()
        return plain_step(env, action)

    setattr(TaskEnv, "step", step)  # noqa: B010 - that it takes less does not matter
    return EpisodeRules(*fields)


def _count(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0
