"""Measures how long training waits when an environment worker is lost, and how long steps take.

All ten tasks, two workers. A worker is killed while it steps; the time is that until the step's
results are there, bit for bit those of the lost worker. The longest step without a loss, among them
one in which all episodes end, says how far from the limit of ``worker_timeout`` a machine is, under
whatever load it is. Usage:

    python -m scripts.benchmarks.recovery
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from mtrl_ntk.rl.envs import BENCHMARKS, MultiTaskVectorEnv, RestartRules
from mtrl_ntk.rl.envs.process import Worker
from mtrl_ntk.rl.envs.workers import WorkerPool
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.command import parse, run_command, write_rows

PROG = "scripts.benchmarks.recovery"
HORIZON = 500


@dataclass(frozen=True)
class Options(Settings):
    """What is measured."""

    repeats: int = number(3, at_least=1)
    """Losses at each step of an episode."""
    json: Path | None = None
    """File for the results."""


def main(argv: Sequence[str]) -> None:
    options = parse(PROG, __doc__, Options(), argv)
    rows = measure(options.repeats)
    for row in rows:
        print(f"{row['what']:<44}{row['median_s']:>8.2f} s{row['longest_s']:>8.2f} s")
    write_rows(options.json, rows)


def measure(repeats: int, steps: Sequence[int] = (1, 250, 499)) -> list[dict[str, str | float]]:
    """Median and longest seconds of steps without and with a lost worker."""
    envs = MultiTaskVectorEnv(
        BENCHMARKS["MT10"],
        seed=0,
        horizon=HORIZON,
        workers=2,
        rules=RestartRules(restarts=repeats * len(steps)),
        report=lambda _: None,
    )
    cpu_seconds = [_cpu_seconds(worker.process.pid) for worker in _workers(envs)]
    plain, lost = list[float](), {step: list[float]() for step in steps}
    envs.reset()
    for repeat in range(repeats):
        for step in range(1, HORIZON + 1):
            loses = step in lost
            seconds = _timed_step(envs, lose=repeat % 2 if loses else None)
            (lost[step] if loses else plain).append(seconds)
    envs.close()
    table = {"CPU time of a process until it is ready": cpu_seconds, "a step": plain}
    table |= {f"a step that loses a worker, {step} of an episode": lost[step] for step in steps}
    return [
        {"what": what, "median_s": float(np.median(seconds)), "longest_s": max(seconds)}
        for what, seconds in table.items()
    ]


def _timed_step(envs: MultiTaskVectorEnv, lose: int | None) -> float:
    """Seconds of a random step, in which a worker is killed if one is given."""
    actions = envs.action_space.sample()
    if lose is None:
        start = time.perf_counter()
        envs.step(actions)
        return time.perf_counter() - start
    process = _workers(envs)[lose].process
    os.kill(process.pid or 0, signal.SIGSTOP)  # so that it cannot be ready before
    start = time.perf_counter()
    envs.step_async(actions)
    process.kill()
    envs.step_wait()
    return time.perf_counter() - start


def _workers(envs: MultiTaskVectorEnv) -> list[Worker]:
    assert isinstance(envs._stepper, WorkerPool)
    return envs._stepper._workers


def _cpu_seconds(pid: int | None) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main, sys.argv[1:]))
