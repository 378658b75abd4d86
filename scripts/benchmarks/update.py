"""Measures what balancing costs: one SAC update, and its parts, against an ordinary one.

The ordinary update is the same agent with the same networks, batch, clipping and optimisers, but
without a tape: ``torch.autograd.grad`` of the mean loss. All variants of a network take turns in
one process, in a new order each round, and a variant's cost is the median over the rounds of its
time divided by the ordinary update's, or that of equal weights, of the same round. ``sequential``
is NTKMTL with one backward pass per task and mini-batch, the published way. A method is left out on
a network that it cannot balance. What is measured in another precision is compared with the same
updates in float32.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypedDict

import torch
from rich.console import Console
from rich.table import Table

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.sections import Device
from mtrl_ntk.rl.networks import NETWORK_KINDS
from mtrl_ntk.rl.precision import Precision
from mtrl_ntk.rl.types import Batch
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.agents import (
    EQUAL,
    PLAIN,
    SEQUENTIAL,
    Size,
    TimedSAC,
    Variant,
    make_agent,
    make_batch,
)
from scripts.benchmarks.command import check_folder, check_names, parse, run_command, write_rows

PROG = "scripts.benchmarks.update"
PARTS = ("critic", "actor", "update")
NETWORKS: tuple[str, ...] = tuple(NETWORK_KINDS)
NAMES = (*METHODS, SEQUENTIAL)
KERNELS = ("loss", "output")
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")

_QUICK_SECONDS = 36.0
"""How long the rounds of a quick run may take, unless the first one that counts takes longer."""


class UpdateRow(TypedDict):
    """The cost of one part of a method's update."""

    method: str
    network: str
    tasks: int
    rows: int
    n: int
    precision: str
    part: str
    ratio: float
    """To the ordinary update of the same network in float32."""
    ratio_to_equal: float
    """To the balanced update of the same network with equal weights in float32."""
    milliseconds: float


class Setting(NamedTuple):
    """What all variants have in common that are compared with one another."""

    network: str
    size: Size


Times = list[dict[Variant, dict[str, float]]]
"""Milliseconds of every round, by variant and part."""


@dataclass(frozen=True)
class BenchOptions(Settings):
    """What is measured, and how often."""

    size: Size = field(default_factory=Size)
    """Size"""
    networks: tuple[str, ...] = ("shared",)
    """Kinds of network: shared, task_embedding, multi_head, independent."""
    minibatches: tuple[int, ...] = (1,)
    """Numbers of mini-batches per task, for the methods that have such an option."""
    kernel: tuple[str, ...] = ("loss",)
    """Kernels, loss or output, for the methods that have such an option."""
    precision: tuple[str, ...] = ("float32",)
    """Precisions of the layers, float32 or bf16."""
    scale: tuple[int, ...] = ()
    """Numbers of tasks to measure one after the other, in place of the one that tasks says."""
    methods: tuple[str, ...] = ()
    """Methods besides plain and equal, sequential among them; by default all."""
    rounds: int = number(15, at_least=1)
    """Rounds that count, after two that do not."""
    quick: bool = False
    """No more rounds than fit into about 40 seconds, and only one before them."""
    device: Device = "cpu"
    """Where the agents learn; auto takes CUDA when there is any."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        _check_counts("minibatches", self.minibatches)
        _check_counts("scale", self.scale or (1,))
        _check_names("methods", self.methods or NAMES, NAMES)
        _check_names("networks", self.networks, NETWORKS)
        _check_names("kernel", self.kernel, KERNELS)
        _check_names("precision", self.precision, PRECISIONS)
        for count in self.minibatches:
            if self.size.rows % count:
                raise ConfigError(f"minibatches is {count}; it must divide {self.size.rows} rows")
        for method in self.methods:
            if not any(Variant(method).fits(network) for network in self.kinds):
                raise ConfigError(f"method {method} fits no network of {', '.join(self.kinds)}")
        self._check_surroundings()

    def _check_surroundings(self) -> None:
        check_folder("json", self.json)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device is cuda; it is not available here")

    @property
    def settings(self) -> list[Setting]:
        """What is measured one after the other: every network with every number of tasks."""
        sizes = [replace(self.size, tasks=tasks) for tasks in self.scale or (self.size.tasks,)]
        return [Setting(kind, size) for size in sizes for kind in self.kinds]

    @property
    def kinds(self) -> list[str]:
        """The kinds of network."""
        return [kind for kind in NETWORKS if kind in self.networks]

    @property
    def round_numbers(self) -> range:
        """Numbers of the rounds; those below zero do not count."""
        return range(-1 if self.quick else -2, self.rounds)

    def variants(self, network: str) -> list[Variant]:
        """What is measured on a kind of network, plain and equal first."""
        names = dict.fromkeys((PLAIN, EQUAL, *(self.methods or NAMES)))
        found = {Variant(name): None for name in (PLAIN, EQUAL)} | dict.fromkeys(
            variant._replace(precision=precision)
            for name in names
            for variant in self._variants_of(name)
            for precision in PRECISIONS
            if precision in self.precision
        )
        return [variant for variant in found if variant.fits(network)]

    def _variants_of(self, name: str) -> Iterator[Variant]:
        """One variant per setting of the options that a method has."""
        known = Variant(name).options
        if "loss" in self.kernel or "kernel" not in known:
            for number in self.minibatches if "num_minibatches" in known else (1,):
                yield Variant(name, number)
        # The kernel of the outputs has no mini-batches, and the reference does not know it.
        if "output" in self.kernel and "kernel" in known and name != SEQUENTIAL:
            yield Variant(name, kernel="output")


def _check_counts(name: str, values: Sequence[int]) -> None:
    if not values:
        raise ConfigError(f"{name} is empty")
    for value in values:
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")


def _check_names(name: str, values: Sequence[str], possible: Sequence[str]) -> None:
    if not values:
        raise ConfigError(f"{name} is empty")
    check_names(name, values, possible)


def measure(chosen: BenchOptions) -> dict[Setting, Times]:
    """Times every variant, one setting after the other: agents take 60 to 120 MB each."""
    seconds = _QUICK_SECONDS / len(chosen.settings) if chosen.quick else math.inf
    return {setting: measure_setting(setting, chosen, seconds) for setting in chosen.settings}


def measure_setting(setting: Setting, chosen: BenchOptions, seconds: float) -> Times:
    """Times a setting's variants in every round; sequential, so slow, in every other one."""
    deadline = time.monotonic() + seconds
    use_cuda = chosen.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if use_cuda else "cpu")
    agents = {
        variant: make_agent(variant, setting.size, setting.network, device)
        for variant in chosen.variants(setting.network)
    }
    batch = make_batch(setting.size, device)
    shuffler = random.Random(0)
    rounds: Times = []
    for index in paced(chosen.round_numbers, deadline):
        taking_part = [
            variant for variant in agents if variant.name != SEQUENTIAL or index % 2 == 0
        ]
        # In a fixed order, a variant would always find the caches as the same other one left them.
        shuffler.shuffle(taking_part)
        times = {variant: timed_update(agents[variant], batch) for variant in taking_part}
        if index >= 0:
            rounds.append(times)
    return rounds


def paced(numbers: range, deadline: float) -> Iterator[int]:
    """Yields numbers up to 0, and more while one as slow as the slowest would end in time."""
    longest = 0.0
    for index in numbers:
        begun = time.monotonic()
        if index > 0 and begun + longest > deadline:
            return
        yield index
        longest = max(longest, time.monotonic() - begun)


def timed_update(agent: TimedSAC, batch: Batch) -> dict[str, float]:
    """Milliseconds of one update, by part."""
    agent.update(batch)
    return agent.stopwatch.read()


def summarize(measured: Mapping[Setting, Times], chosen: BenchOptions) -> list[UpdateRow]:
    """One row per setting, variant and part."""
    return [
        UpdateRow(
            method=variant.label,
            network=setting.network,
            tasks=setting.size.tasks,
            rows=setting.size.rows,
            n=variant.n,
            precision=variant.precision,
            part=part,
            ratio=_ratio(rounds, variant, PLAIN, part),
            ratio_to_equal=_ratio(rounds, variant, EQUAL, part),
            milliseconds=median(times[variant][part] for times in rounds if variant in times),
        )
        for setting, rounds in measured.items()
        for variant in chosen.variants(setting.network)
        for part in PARTS
    ]


def _ratio(rounds: Times, variant: Variant, other: str, part: str) -> float:
    """Median over the rounds of a variant's time divided by another's."""
    return median(
        times[variant][part] / times[Variant(other)][part] for times in rounds if variant in times
    )


def table(setting: Setting, rows: Sequence[UpdateRow]) -> Table:
    """A setting's rows for people: one line per variant."""
    title = f"network {setting.network}, {setting.size.tasks} tasks"
    shown = Table("method", "n", "precision", *PARTS, "update / equal", "ms", title=title)
    lines: dict[tuple[str, int, str], dict[str, UpdateRow]] = {}
    for row in rows:
        if (row["network"], row["tasks"]) == (setting.network, setting.size.tasks):
            key = (row["method"], row["n"], row["precision"])
            lines.setdefault(key, {})[row["part"]] = row
    for (method, count, precision), own in lines.items():
        ratios = [own[part]["ratio"] for part in PARTS] + [own["update"]["ratio_to_equal"]]
        cells = [f"{ratio:.3f}" for ratio in ratios]
        milliseconds = f"{own['update']['milliseconds']:.2f}"
        shown.add_row(method, str(count), precision, *cells, milliseconds)
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used.
    """
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    # thread_time() sees this thread only.
    torch.set_num_threads(1)
    measured = measure(chosen)
    rows = summarize(measured, chosen)
    console, size = Console(), chosen.size
    console.print(f"{size.rows} rows each, {size.depth} x {size.width} units; multiples of plain")
    for setting, rounds in measured.items():
        console.print(table(setting, rows), f"medians of {len(rounds)} rounds")
    write_rows(chosen.json, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
