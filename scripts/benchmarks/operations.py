"""Measures where a recorded update spends its time: the operations of a preset's update, by name.

The update is that of train_mt10 on the CPU, on random transitions, on one thread. Each operation of
each repetition is timed by itself, and counts with the 20 % quantile of its times: what other
programs on the machine take in between falls out. Sums of such quantiles repeat to about 2 % where
the clock of the whole update differs by 20 %. The processor's time of a whole update is measured as
well, as not all operations have a good day at once.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.agents import make_agent, make_replay
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.logs.metrics import MetricMeans
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.experiment.training.learner import Learner
from mtrl_ntk.rl.heap import keep_freed_memory
from mtrl_ntk.rl.host_function import as_function
from mtrl_ntk.rl.host_graph import HostRecorder
from mtrl_ntk.rl.host_program import Step
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.command import check_folder, parse, run_command, write_rows

PROG = "scripts.benchmarks.operations"
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
"""Names of matrix products."""

_ROWS = 500
_WARM_UPS = 8
"""Updates until one was recorded and compared."""
_QUANTILE = 0.2


@dataclass(frozen=True)
class BenchOptions(Settings):
    """Which update is measured."""

    preset: str = "mt10_quick"
    """Preset, or config file, of the run."""
    method: str = "ntkmtl"
    """Balancing method."""
    precision: str = "float32"
    """Of the layers' products."""
    rounds: int = number(100, at_least=1)
    """Repetitions of the update."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        check_folder("json", self.json)

    @property
    def config(self) -> RunConfig:
        """The run whose update it is."""
        arguments = ["--config", self.preset, "--method", self.method, "--device", "cpu"]
        arguments += ["--precision", self.precision, "--replay-capacity", str(_ROWS)]
        return load(arguments, PROG)


class OperationRow(TypedDict):
    """All operations of one name."""

    name: str
    count: int
    microseconds: float
    share: float


class Timed(NamedTuple):
    """An operation and the quantile of its times."""

    name: str
    microseconds: float


def recorded_steps(config: RunConfig) -> list[Step]:
    """The steps of a recorded update.

    Raises:
        UserError: If the method's update is not repeated from a recording.
    """
    device, num_tasks = torch.device("cpu"), len(config.env.task_names)
    replay, agent = make_replay(config, num_tasks, device), make_agent(config, num_tasks, device)
    suite, shape = config.env.task_suite, (num_tasks, _ROWS)
    drawn = np.random.default_rng(0).random
    observations, following = drawn((2, *shape, suite.observation_dim), np.float32)
    actions = 2 * drawn((*shape, suite.action_dim), np.float32) - 1
    rewards = drawn(shape, np.float32)
    replay.add(observations, actions, rewards, following, np.zeros(shape, np.float32))
    recorder = HostRecorder()
    learner = Learner(agent, replay, MetricMeans(device), recorder=recorder)
    for _ in range(_WARM_UPS):
        learner.update()
    if not recorder.replays[0].repeats:
        raise UserError(f"updates of {config.method} are not repeated from a recording")
    return recorder.replays[0].steps


def measure(steps: Sequence[Step], rounds: int) -> list[Timed]:
    """Times each step in each repetition, without the call of a function from Python."""
    functions = [as_function(some) for some in ([], *([step] for step in steps))]
    times = np.zeros((rounds, len(functions)))
    for row in times:
        for index, function in enumerate(functions):
            begun = time.perf_counter_ns()
            function()
            row[index] = time.perf_counter_ns() - begun
    call, *found = np.quantile(times, _QUANTILE, axis=0) / 1e3
    return [Timed(step.name, float(each - call)) for step, each in zip(steps, found, strict=True)]


def measure_together(steps: Sequence[Step], rounds: int) -> float:
    """Microseconds of the processor that all steps take together, as an update takes them."""
    function, times = as_function(steps), []
    for _ in range(rounds):
        begun = time.thread_time_ns()
        function()
        times.append(time.thread_time_ns() - begun)
    return float(np.quantile(times, _QUANTILE)) / 1e3


def summarize(timed: Sequence[Timed]) -> list[OperationRow]:
    """One row per name, the dearest first."""
    groups = defaultdict[str, list[float]](list)
    for name, microseconds in timed:
        groups[name].append(microseconds)
    total = sum(each.microseconds for each in timed)
    rows = [
        OperationRow(name=name, count=len(all_), microseconds=sum(all_), share=sum(all_) / total)
        for name, all_ in groups.items()
    ]
    return sorted(rows, key=lambda row: -row["microseconds"])


def table(rows: Sequence[OperationRow], together: float) -> Table:
    """The rows for people."""
    total = sum(row["microseconds"] for row in rows)
    products = sum(row["share"] for row in rows if row["name"] in PRODUCTS)
    title = (
        f"{total / 1e3:.2f} ms, {products:.2f} of it matrix products; "
        f"{together / 1e3:.2f} ms one after the other"
    )
    shown = Table("operation", "times", "µs", "share", title=title)
    for row in rows:
        cells = f"{row['microseconds']:.0f}", f"{row['share']:.3f}"
        shown.add_row(row["name"], str(row["count"]), *cells)
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used.
    """
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    torch.set_num_threads(1)
    keep_freed_memory()
    steps = recorded_steps(chosen.config)
    rows = summarize(measure(steps, chosen.rounds))
    Console().print(table(rows, measure_together(steps, chosen.rounds)))
    write_rows(chosen.json, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
