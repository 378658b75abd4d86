"""Measures how close training is to its limits: the slower of its two parts, and matmul.

The loop: wall time of an iteration of the real training loop over the larger of what the
environments and the update take alone. Blocks of iterations, of steps of the same environments
without the learner, and of updates of the same agent without the environments take turns in one
run, and the ratio is the median over the rounds. Its limit is 1, but only where workers have cores
of their own: without workers it is 1 + the smaller over the larger of the two, and other programs
on the machine distort it, since the wall clock counts the time that they had the cores.

The update: multiply-adds per second of a whole SAC update over those of the fastest of its own
matrix products, in turns in the same process. On the CPU both are counted in the time that one
thread was computing, so that a shared machine does no harm.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypedDict

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.devices import learner_threads, resolve_device
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.experiment.options.sections import Device, LoopConfig
from mtrl_ntk.experiment.training.assembly import make_loop
from mtrl_ntk.experiment.training.loop import TrainingLoop
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.rl.envs import BENCHMARKS, EnvConfig, resolved_workers, task_names, usable_cores
from mtrl_ntk.rl.sac import SacConfig
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.agents import Size, Variant, make_agent, make_batch
from scripts.benchmarks.command import check_folder, parse, run_command, write_rows
from scripts.benchmarks.products import main_products, product_rate
from scripts.benchmarks.update import paced

PROG = "scripts.benchmarks.loop"

_QUICK_SECONDS = {"iteration": 20.0, "gflops": 32.0}
"""Since the start of the program, by when the rounds of a quick run should have ended."""


@dataclass(frozen=True)
class BenchOptions(Settings):
    """What is measured, and how often."""

    tasks: tuple[str, ...] = ()
    """Tasks to train on; by default those of MT10."""
    method: str = "ntkmtl"
    """Balancing method."""
    rows: int = number(128, at_least=1)
    """Replay rows per task."""
    width: int = number(400, at_least=1)
    """Units of each hidden layer."""
    depth: int = number(3, at_least=1)
    """Hidden layers."""
    workers: int = number(-1, at_least=-1)
    """Processes that step the environments, as for train_mt10; -1 chooses by cores."""
    threads: int = number(0, at_least=0)
    """Threads of PyTorch in the loop; 0 chooses by cores and workers."""
    block: int = number(5, at_least=1)
    """Iterations, steps or updates that are timed together."""
    rounds: int = number(15, at_least=1)
    """Rounds that count, after one that does not."""
    quick: bool = False
    """No more rounds than end about half a minute after the start, but do one."""
    device: Device = "cpu"
    """Where the agent learns; auto takes CUDA when there is any."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        task_names(tasks=self.tasks or None)
        if self.method not in METHODS:
            raise ConfigError(f"unknown method {self.method!r}; {suggestion(self.method, METHODS)}")
        if not Variant(self.method).fits("shared"):
            raise ConfigError(f"method {self.method} cannot balance the network shared")
        check_folder("json", self.json)

    @property
    def size(self) -> Size:
        """How large an update is."""
        tasks = len(self.tasks or BENCHMARKS["MT10"])
        return Size(tasks=tasks, rows=self.rows, width=self.width, depth=self.depth)

    @property
    def round_numbers(self) -> range:
        """Numbers of the rounds; those below zero do not count."""
        return range(-1, self.rounds)

    def run_config(self, run_dir: Path) -> RunConfig:
        """The run whose loop is measured: as train_mt10 makes it, but with a short warm start."""
        return RunConfig(
            method=self.method,
            device=self.device,
            threads=self.threads,
            run_dir=run_dir,
            env=EnvConfig(tasks=self.tasks, workers=self.workers),
            sac=SacConfig(batch_size=self.rows, width=self.width, depth=self.depth),
            # A block more than is measured: the loop is left, and does not end.
            loop=LoopConfig(
                total_steps=self.rows + self.block * (len(self.round_numbers) + 1),
                warmstart_steps=self.rows,
            ),
        )


class LoopTimes(NamedTuple):
    """Seconds of wall clock in one round."""

    iteration: float
    """Of an iteration of the loop."""
    env: float
    """Of a step of all environments alone."""
    update: float
    """Of an update alone."""


class Gflops(NamedTuple):
    """Floating-point operations per second in one round."""

    update: float
    """Of a whole update."""
    products: tuple[float, ...]
    """Of each of its main matrix products."""


class IterationRow(TypedDict):
    """An iteration over the larger of its two parts."""

    what: str
    ratio: float
    milliseconds: float
    env_milliseconds: float
    update_milliseconds: float
    workers: int
    threads: int
    cores: int


class GflopsRow(TypedDict):
    """What an update achieves over what its matrix products do."""

    what: str
    ratio: float
    gflops: float
    ceiling_gflops: float
    gflop_per_update: float


class Measured(Exception):
    """Enough was measured; the loop is left."""


class TimedTrainer(Trainer):
    """A trainer that pauses between blocks of steps to time the parts of one alone.

    Args:
        config: How many updates a step has, and from which step on.
        trainer: In whose place it is.
        block: Iterations, steps or updates that are timed together.
        numbers: Numbers of the rounds; those below zero do not count.
    """

    def __init__(
        self, config: LoopConfig, trainer: Trainer, block: int, numbers: Iterator[int]
    ) -> None:
        super().__init__(config, trainer.clock, trainer.collector, trainer.learner)
        self.rounds: list[LoopTimes] = []
        self._warmstart_steps, self._block, self._numbers = config.warmstart_steps, block, numbers
        self._begun = self._now()

    def take_step(self) -> None:
        """Takes a step; after the last of a block, times its parts."""
        super().take_step()
        since_warmstart = self.clock.step - self._warmstart_steps
        if since_warmstart < 0 or since_warmstart % self._block:
            return
        if since_warmstart > 0:
            self._end_block()
        self._number = next(self._numbers, None)
        if self._number is None:
            raise Measured
        self._begun = self._now()

    def _end_block(self) -> None:
        iteration = (self._now() - self._begun) / self._block
        times = LoopTimes(iteration, self._mean(self._step_envs), self._mean(self._repeat_update))
        if self._number is not None and self._number >= 0:
            self.rounds.append(times)

    def _mean(self, seconds: Callable[[], float]) -> float:
        return sum(seconds() for _ in range(self._block)) / self._block

    def _step_envs(self) -> float:
        """Seconds of a step of the environments, with the policy's actions and no learner."""
        collector = self.collector
        actions = collector.choose_actions(self.clock.step)
        begun = self._now()
        collector.envs.step_async(actions)
        results = collector.envs.step_wait()
        seconds = self._now() - begun
        collector.observations = results[0]
        return seconds

    def _repeat_update(self) -> float:
        """Seconds of an update on a new batch, while the environments wait."""
        self.clock.updates -= 1  # the last one is due again
        begun = self._now()
        self.update()
        return self._now() - begun

    def _now(self) -> float:
        """The wall clock, once the device is done."""
        if self.learner.agent.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def measure_loop(chosen: BenchOptions, deadline: float) -> tuple[list[LoopTimes], int]:
    """Times the loop of a run in a folder of its own; also tells PyTorch's threads."""
    threads_before = torch.get_num_threads()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        config = chosen.run_config(Path(folder))
        threads = learner_threads(config)
        torch.set_num_threads(threads)
        stack.callback(torch.set_num_threads, threads_before)
        numbers = paced(chosen.round_numbers, deadline)
        rounds = measure_rounds(*timed_loop(config, Path(folder), stack, chosen.block, numbers))
    return rounds, threads


def timed_loop(
    config: RunConfig, run_dir: Path, stack: ExitStack, block: int, numbers: Iterator[int]
) -> tuple[TrainingLoop, TimedTrainer]:
    """Makes the loop of a run, with a trainer that measures."""
    loop = make_loop(config, run_dir, resolve_device(config.device), stack)
    assert isinstance(loop.trainer, Trainer)
    timed = TimedTrainer(config.loop, loop.trainer, block, numbers)
    return replace(loop, trainer=timed), timed


def measure_rounds(loop: TrainingLoop, timed: TimedTrainer) -> list[LoopTimes]:
    """Runs a loop until its trainer has measured all rounds."""
    loop.begin(None)
    try:
        loop.run()
    except Measured:
        return timed.rounds
    raise AssertionError("the loop has ended before it was measured")


def iteration_row(rounds: Sequence[LoopTimes], workers: int, threads: int) -> IterationRow:
    """The loop in one row."""
    return IterationRow(
        what="iteration",
        ratio=median(times.iteration / max(times.env, times.update) for times in rounds),
        milliseconds=1e3 * median(times.iteration for times in rounds),
        env_milliseconds=1e3 * median(times.env for times in rounds),
        update_milliseconds=1e3 * median(times.update for times in rounds),
        workers=workers,
        threads=threads,
        cores=usable_cores(),
    )


def measure_gflops(chosen: BenchOptions, deadline: float) -> tuple[list[Gflops], int]:
    """Rates of an update and of its products, in turns; and the operations of an update.

    One thread computes on the CPU: its own time is known whatever else the machine does.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    agent = make_agent(Variant(chosen.method), chosen.size, "shared", resolve_device(chosen.device))
    batch = make_batch(chosen.size, agent.device)
    products = main_products(agent, chosen.size)
    with FlopCounterMode(display=False) as counter:
        agent.update(batch)
    flops = counter.get_total_flops()
    rounds = []
    for index in paced(chosen.round_numbers, deadline):
        of_products = tuple(product_rate(product, agent, flops) for product in products)
        agent.update(batch)
        rates = Gflops(1e3 * flops / agent.stopwatch.read()["update"], of_products)
        if index >= 0:
            rounds.append(rates)
    torch.set_num_threads(threads_before)
    return rounds, flops


def gflops_row(rounds: Sequence[Gflops], flops: int) -> GflopsRow:
    """The update's speed in one row."""
    # The fastest product overall: the fastest of each round would count luck as speed.
    candidates = range(len(rounds[0].products))
    return GflopsRow(
        what="gflops",
        ratio=min(median(r.update / r.products[index] for r in rounds) for index in candidates),
        gflops=1e-9 * median(r.update for r in rounds),
        ceiling_gflops=1e-9 * max(median(r.products[i] for r in rounds) for i in candidates),
        gflop_per_update=1e-9 * flops,
    )


def table(loop: IterationRow, speed: GflopsRow) -> Table:
    """The rows for people."""
    shown = Table("what", "ratio", "of")
    shown.add_row(
        loop["what"],
        f"{loop['ratio']:.3f}",
        f"{loop['milliseconds']:.2f} ms; alone: environments {loop['env_milliseconds']:.2f} ms, "
        f"update {loop['update_milliseconds']:.2f} ms",
    )
    shown.add_row(
        speed["what"],
        f"{speed['ratio']:.3f}",
        f"{speed['gflops']:.1f} GFLOP/s; ceiling {speed['ceiling_gflops']:.1f} GFLOP/s",
    )
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used.
    """
    started = time.monotonic()
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    deadlines = {
        what: started + seconds if chosen.quick else math.inf
        for what, seconds in _QUICK_SECONDS.items()
    }
    times, threads = measure_loop(chosen, deadlines["iteration"])
    workers = resolved_workers(EnvConfig(tasks=chosen.tasks, workers=chosen.workers))
    loop = iteration_row(times, workers, threads)
    rates, flops = measure_gflops(chosen, deadlines["gflops"])
    speed = gflops_row(rates, flops)
    Console().print(
        f"{workers} workers, {threads} threads on {loop['cores']} cores; "
        f"medians of {len(times)} and {len(rates)} rounds",
        table(loop, speed),
    )
    write_rows(chosen.json, [loop, speed])


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
