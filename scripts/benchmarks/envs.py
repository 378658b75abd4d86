"""Measures what lean environments save, and the speed of the vector environment.

A step and a reset of each task: the CPU time of the lean environment divided by that of the stock
one, with the same goals and actions. The two take turns, and a ratio is the median over the rounds
of the times within the same round.

The vector environment: its steps per second of wall clock divided by those of the better one of
Gymnasium's ``SyncVectorEnv`` and ``AsyncVectorEnv`` over stock environments of the same tasks,
which get no more wrappers than a horizon and episode statistics.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
from gymnasium import Env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit
from metaworld.policies import ENV_POLICY_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.rl.envs import ACTION_DIM, BENCHMARKS, MultiTaskVectorEnv, task_names
from mtrl_ntk.rl.suites.metaworld.simulation import draw_goals, make_sim, set_goal
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.command import check_folder, parse, run_command

PROG = "scripts.benchmarks.envs"
LEAN, STOCK = "lean", "stock"
KINDS = ("step", "reset")
SYNC, ASYNC = "SyncVectorEnv", "AsyncVectorEnv"
MEAN = "mean"

_WARM_UP = 1
_LEAST_ROUNDS = 3
_QUICK_SECONDS = {"tasks": 18.0, "vector": 32.0}
"""Since the start of the program, when a quick run begins no further round."""
_VECTOR_STEPS = 20
_SCRIPTED_SHARE = 0.7

TaskTimes = dict[str, dict[str, dict[str, float]]]
"""Seconds of a round, by task, ``lean`` or ``stock``, and ``step`` or ``reset``."""
VectorSpeeds = dict[str, float]
"""Environment steps per second of a round, by vector environment."""


@dataclass(frozen=True)
class BenchOptions(Settings):
    """What is measured, and how often."""

    tasks: tuple[str, ...] = ()
    """Tasks to measure; by default those of MT10."""
    steps: int = number(100, at_least=2, at_most=METAWORLD.max_horizon)
    """Environment steps after each reset, most by the task's scripted policy, the others random."""
    workers: tuple[int, ...] = (0, 2)
    """Numbers of worker processes of the vector environment."""
    rounds: int = number(20, at_least=1)
    """Rounds that count, after one that does not."""
    quick: bool = False
    """Begin no round later than about half a minute after the start, but do three."""
    json: Path | None = None
    """File for the rows of the tables."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        task_names(tasks=self.tasks or BENCHMARKS["MT10"])
        if any(workers < 0 for workers in self.workers):
            raise ConfigError(f"workers are {self.workers}; none may be negative")
        check_folder("json", self.json)


class TaskRow(TypedDict):
    """CPU time of one kind of call of a task, or of the mean over tasks."""

    what: str
    task: str
    ratio: float
    microseconds: float


class VectorRow(TypedDict):
    """Throughput of the vector environment."""

    what: str
    envs: int
    workers: int
    ratio: float
    steps_per_second: float


class Schedule(NamedTuple):
    """How many rounds to measure."""

    rounds: int
    deadline: float
    """Reading of the monotonic clock after which no round begins that need not be."""

    def indices(self) -> Iterable[int]:
        """Numbers of the rounds; those below zero do not count."""
        for index in range(-_WARM_UP, self.rounds):
            if index >= _LEAST_ROUNDS and time.monotonic() > self.deadline:
                return
            yield index


class Contest:
    """The lean and the stock environment of a task, which play the same episodes."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.sims = {LEAN: make_sim(task), STOCK: make_sim(task, lean=False)}
        self._rng = np.random.default_rng(0)
        self.goals = draw_goals(self.sims[LEAN], self._rng)

    def times(self, index: int, steps: int, order: Sequence[str]) -> dict[str, dict[str, float]]:
        """CPU seconds of a reset and of a step, by environment."""
        goal = self.goals[index % len(self.goals)]
        actions = self._actions(goal, steps)
        return {name: timed_episode(self.sims[name], goal, actions) for name in order}

    def _actions(self, goal: NDArray[np.float64], steps: int) -> list[NDArray[np.float32]]:
        """Those of the task's policy, and then random ones."""
        sim = self.sims[LEAN]
        set_goal(sim, goal)
        observation, _ = sim.reset()
        actions = []
        for _ in range(int(steps * _SCRIPTED_SHARE)):
            actions.append(_policy_action(self.task, observation))
            observation = sim.step(actions[-1])[0]
        drawn = self._rng.uniform(-1, 1, (steps - len(actions), ACTION_DIM))
        return [*actions, *drawn.astype(np.float32)]


def _policy_action(task: str, observation: NDArray[np.float64]) -> NDArray[np.float32]:
    policy: Any = ENV_POLICY_MAP[task]
    with warnings.catch_warnings():
        # The policy says that its action may be too large; it is clipped.
        warnings.filterwarnings("ignore", message="Constant")
        action = policy().get_action(observation)
    return np.asarray(np.clip(action, -1, 1), np.float32)


def timed_episode(
    sim: SawyerXYZEnv, goal: NDArray[np.float64], actions: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    """CPU seconds of this thread for a reset, and per step."""
    set_goal(sim, goal)
    start = time.thread_time()
    sim.reset()
    middle = time.thread_time()
    for action in actions:
        sim.step(action)
    return {"reset": middle - start, "step": (time.thread_time() - middle) / len(actions)}


def measure_tasks(contests: Sequence[Contest], steps: int, schedule: Schedule) -> list[TaskTimes]:
    """Times every task in every round."""
    shuffler = random.Random(0)
    rounds = []
    for index in schedule.indices():
        # In a fixed order, one of the two would always find the caches as the other left them.
        order = shuffler.sample((LEAN, STOCK), 2)
        times = {contest.task: contest.times(index, steps, order) for contest in contests}
        if index >= 0:
            rounds.append(times)
    return rounds


def summarize_tasks(rounds: Sequence[TaskTimes]) -> list[TaskRow]:
    """One row per kind of call and task, and one for the mean over the tasks."""
    with_mean = [times | {MEAN: _mean(times)} for times in rounds]
    return [
        TaskRow(
            what=kind,
            task=task,
            ratio=median(times[task][LEAN][kind] / times[task][STOCK][kind] for times in with_mean),
            microseconds=1e6 * median(times[task][LEAN][kind] for times in with_mean),
        )
        for kind in KINDS
        for task in with_mean[0]
    ]


def _mean(times: TaskTimes) -> dict[str, dict[str, float]]:
    return {
        name: {kind: sum(own[name][kind] for own in times.values()) / len(times) for kind in KINDS}
        for name in (LEAN, STOCK)
    }


def stock_env(task: str, goal: NDArray[np.float64]) -> Env[Any, Any]:
    """A stock environment with one goal, a horizon and episode statistics."""
    sim = make_sim(task, lean=False)
    set_goal(sim, goal)
    limited: Env[Any, Any] = TimeLimit(sim, METAWORLD.max_horizon)
    return RecordEpisodeStatistics(limited)


def make_vector_envs(
    goals: dict[str, NDArray[np.float64]], workers: Sequence[int]
) -> dict[str, VectorEnv[Any, Any, Any]]:
    """Gymnasium's vector environments and ours, all of the same tasks, after a reset."""
    makers = [partial(stock_env, task, goal) for task, goal in goals.items()]
    made: dict[str, VectorEnv[Any, Any, Any]] = {
        SYNC: SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP),
        ASYNC: AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP),
    }
    for count in workers:
        made[str(count)] = MultiTaskVectorEnv(goals, seed=0, workers=count)
    for vector_env in made.values():
        vector_env.reset()
    return made


def measure_vector_envs(
    vector_envs: dict[str, VectorEnv[Any, Any, Any]], schedule: Schedule
) -> list[VectorSpeeds]:
    """Speeds of every vector environment in every round, with the same actions."""
    rng, shuffler = np.random.default_rng(0), random.Random(0)
    rounds = []
    for index in schedule.indices():
        shape = (_VECTOR_STEPS, vector_envs[SYNC].num_envs, ACTION_DIM)
        actions = rng.uniform(-1, 1, shape).astype(np.float32)
        order = shuffler.sample(list(vector_envs), len(vector_envs))
        speeds = {name: speed(vector_envs[name], actions) for name in order}
        if index >= 0:
            rounds.append(speeds)
    return rounds


class Steppable(Protocol):
    """Environments that are stepped together."""

    num_envs: int

    def step(self, actions: NDArray[np.float32], /) -> object:
        """Steps all of them."""

    def close(self) -> object:
        """Frees what they hold."""


def speed(vector_env: Steppable, actions: NDArray[np.float32]) -> float:
    """Environment steps per second of wall clock."""
    start = time.perf_counter()
    for action in actions:
        vector_env.step(action)
    return len(actions) * vector_env.num_envs / (time.perf_counter() - start)


def summarize_vector_envs(
    rounds: Sequence[VectorSpeeds], envs: int, workers: Sequence[int]
) -> list[VectorRow]:
    """One row per number of workers."""
    return [
        VectorRow(
            what="vector",
            envs=envs,
            workers=number,
            ratio=median(
                speeds[str(number)] / max(speeds[SYNC], speeds[ASYNC]) for speeds in rounds
            ),
            steps_per_second=median(speeds[str(number)] for speeds in rounds),
        )
        for number in workers
    ]


def task_table(rows: Sequence[TaskRow]) -> Table:
    """The rows of steps and resets for people: one line per task."""
    shown = Table("task", *(f"{kind} {column}" for kind in KINDS for column in ("ratio", "in us")))
    found = {(row["task"], row["what"]): row for row in rows}
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [found[task, kind] for kind in KINDS]
        shown.add_row(
            task,
            *(
                text
                for row in own
                for text in (f"{row['ratio']:.3f}", f"{row['microseconds']:.0f}")
            ),
        )
    return shown


def vector_table(rows: Sequence[VectorRow]) -> Table:
    """The rows of the vector environment for people."""
    shown = Table("environments", "workers", "ratio", "steps per second")
    for row in rows:
        speed_text = f"{row['steps_per_second']:.0f}"
        shown.add_row(str(row["envs"]), str(row["workers"]), f"{row['ratio']:.2f}", speed_text)
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used.
    """
    started = time.monotonic()
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    schedules = {
        part: Schedule(chosen.rounds, started + seconds if chosen.quick else math.inf)
        for part, seconds in _QUICK_SECONDS.items()
    }
    console = Console()
    contests = [Contest(task) for task in chosen.tasks or BENCHMARKS["MT10"]]
    task_rounds = measure_tasks(contests, chosen.steps, schedules["tasks"])
    task_rows = summarize_tasks(task_rounds)
    console.print(f"lean / stock CPU time, medians of {len(task_rounds)} rounds")
    console.print(task_table(task_rows))
    goals = {contest.task: contest.goals[0] for contest in contests}
    vector_rows = bench_vector_envs(goals, chosen.workers, schedules["vector"])
    console.print("throughput / that of Gymnasium's better vector environment")
    console.print(vector_table(vector_rows))
    if chosen.json is not None:
        rows = [*task_rows, *vector_rows]
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def bench_vector_envs(
    goals: dict[str, NDArray[np.float64]], workers: Sequence[int], schedule: Schedule
) -> list[VectorRow]:
    """Makes, measures and closes the vector environments."""
    vector_envs = make_vector_envs(goals, workers)
    try:
        rounds = measure_vector_envs(vector_envs, schedule)
    finally:
        for vector_env in vector_envs.values():
            vector_env.close()
    return summarize_vector_envs(rounds, len(goals), workers)


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
