"""Measures what the main process of training computes in an iteration, part by part.

The run is that of train_mt10 with a preset, on one thread. Counted is the time that this thread was
computing, so that other programs do little harm; what workers compute does not count, nor does
waiting for them. Without workers the simulation is a part.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.training.assembly import make_loop
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.experiment.training.loop import TrainingLoop
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.rl.heap import keep_freed_memory
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.command import check_folder, parse, run_command, write_rows

PROG = "scripts.benchmarks.iteration"

_WARM_UPS = 20
"""Iterations with updates that do not count: one is recorded, and one compared."""
_ALL, _REST = "all", "rest"


@dataclass(frozen=True)
class BenchOptions(Settings):
    """Which run is measured."""

    preset: str = "mt10_quick"
    """Preset, or config file, of the run."""
    method: str = "ntkmtl"
    """Balancing method."""
    workers: int = number(1, at_least=0)
    """Processes that step the environments."""
    iterations: int = number(300, at_least=1)
    """Iterations that count, each with an update."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        check_folder("json", self.json)

    def config(self, run_dir: Path) -> RunConfig:
        """The run."""
        arguments = ["--config", self.preset, "--method", self.method, "--device", "cpu"]
        arguments += ["--workers", str(self.workers), "--threads", "1"]
        return load([*arguments, "--run-dir", str(run_dir)], PROG)


class PartRow(TypedDict):
    """A part of an iteration."""

    part: str
    microseconds: float
    share: float


class Measured(Exception):
    """Enough was measured; the loop is left."""


class Account:
    """Divides the time of iterations among methods; what one calls of another is the other's.

    Args:
        first: Iterations that do not count.
        last: Iterations after which the loop is left.
    """

    def __init__(self, first: int, last: int) -> None:
        self.iterations: list[Counter[str]] = []
        self._first, self._last = first, last
        self._now = Counter[str]()
        self._inner = [0]
        self._begun = 0

    def watch(self, owner: Any, method: str, part: str) -> None:  # noqa: ANN401 - anything with methods
        """Counts what a method of an object takes."""
        call = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            begun = time.thread_time_ns()
            self._inner.append(0)
            try:
                return call(*args, **kwargs)
            finally:
                taken = time.thread_time_ns() - begun
                self._now[part] += taken - self._inner.pop()
                self._inner[-1] += taken

        setattr(owner, method, timed)

    def iterate(self, take_step: Callable[[], object]) -> Callable[[], None]:
        """A step that begins an iteration."""

        def step() -> None:
            now = time.thread_time_ns()
            self._now[_ALL] = now - self._begun
            self._now[_REST] = self._now[_ALL] - sum(
                taken for part, taken in self._now.items() if part not in (_ALL, _REST)
            )
            self.iterations.append(self._now)
            if len(self.iterations) > self._last:
                raise Measured
            self._now, self._begun = Counter(), now
            take_step()

        return step

    def rows(self) -> list[PartRow]:
        """The median of each part, the dearest first."""
        counted = self.iterations[self._first + 1 :]
        medians = {
            part: float(np.median([iteration[part] for iteration in counted])) / 1e3
            for part in dict.fromkeys(part for iteration in counted for part in iteration)
        }
        return [
            PartRow(part=part, microseconds=each, share=each / medians[_ALL])
            for part, each in sorted(medians.items(), key=lambda pair: -pair[1])
        ]


def watch(loop: TrainingLoop, account: Account) -> None:
    """Lets an account divide a loop's iterations."""
    trainer = loop.trainer
    assert isinstance(trainer, Trainer)
    collector, learner = trainer.collector, trainer.learner
    account.watch(learner, "update", "update")
    account.watch(collector.exploration, "actions", "choose actions")
    account.watch(collector.envs, "step_async", "begin the step")
    account.watch(collector.envs, "step_wait", "end the step")
    account.watch(collector.envs._stepper, "step_wait", "simulate, or wait")
    account.watch(collector.reward_scale, "observe", "scale of rewards")
    account.watch(collector.returns, "add", "n-step returns")
    account.watch(collector.returns.replay, "add", "replay")
    account.watch(collector, "_remember", "other bookkeeping")
    trainer.take_step = account.iterate(trainer.take_step)  # type: ignore[method-assign]


def measure(chosen: BenchOptions) -> list[PartRow]:
    """Takes iterations of a run in a folder of its own."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        config = chosen.config(Path(folder))
        first = config.loop.warmstart_steps + _WARM_UPS
        account = Account(first, first + chosen.iterations)
        loop = make_loop(config, Path(folder), torch.device("cpu"), stack, quiet=True)
        watch(loop, account)
        loop.begin(None)
        try:
            loop.run()
        except Measured:
            return account.rows()
    raise AssertionError("the run has ended before it was measured")


def table(rows: Sequence[PartRow]) -> Table:
    """The rows for people."""
    shown = Table("part", "µs", "share")
    for row in rows:
        shown.add_row(row["part"], f"{row['microseconds']:.0f}", f"{row['share']:.3f}")
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used.
    """
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = measure(chosen)
    Console().print(table(rows))
    write_rows(chosen.json, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
