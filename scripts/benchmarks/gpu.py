"""Measures updates on a GPU: eager, compiled, and replayed as a CUDA graph.

Everything that a run does for an update is in it: drawing transitions, learning from them, and
summing up what happened. ``plain`` is the same agent without balancing, ``equal`` the balanced
update with equal weights. All methods of a precision and a way of running take turns in one
process, in a new order each round, and ratios are medians over rounds. Besides, each row has the
number of kernels of an update, and its time over two limits: what launching so many kernels takes
at the least, and what its arithmetic takes at the rate of this GPU's largest matrix products.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypedDict, get_args

import torch
from rich.console import Console
from rich.table import Table

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.rl.cuda_graph import CudaRecorder, Recorder
from mtrl_ntk.rl.networks import NETWORK_KINDS
from mtrl_ntk.rl.precision import Precision, set_products
from mtrl_ntk.settings import Settings, number, setting
from scripts.benchmarks.agents import EQUAL, PLAIN, Size, Variant
from scripts.benchmarks.command import check_folder, check_names, parse, run_command, write_rows
from scripts.benchmarks.gpu_updates import Contender, Cost, Setting, best_rate, make_learner

PROG = "scripts.benchmarks.gpu"
WAYS = ("eager", "compiled", "graphed", "compiled_graphed")
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_LAUNCH_SECONDS = {False: 5e-6, True: 1e-6}
"""Least time from one kernel to the next: launched by the host, or replayed from a graph."""


@dataclass(frozen=True)
class BenchOptions(Settings):
    """What is measured, and how often."""

    size: Size = field(default_factory=Size)
    """Size"""
    network: str = setting("shared", choices=NETWORK_KINDS)
    """What the tasks share."""
    methods: tuple[str, ...] = ("ntkmtl",)
    """Methods besides plain and equal."""
    ways: tuple[str, ...] = WAYS
    """Ways of running: eager, compiled, graphed, compiled_graphed."""
    precision: tuple[str, ...] = PRECISIONS
    """Precisions of the layers' products: float32, tf32, bf16."""
    updates: int = number(200, at_least=1)
    """Updates of each round."""
    rounds: int = number(5, at_least=1)
    """Rounds."""
    quick: bool = False
    """Within 50 seconds: nothing compiled, no bf16, fewer updates and rounds."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        check_names("methods", self.methods, tuple(METHODS))
        check_names("ways", self.ways, WAYS)
        check_names("precision", self.precision, PRECISIONS)
        for method in self.methods:
            if not Variant(method).fits(self.network):
                raise ConfigError(f"method {method} cannot balance the network {self.network}")
        check_folder("json", self.json)

    @property
    def names(self) -> list[str]:
        """What is measured, plain and equal first."""
        return list(dict.fromkeys((PLAIN, EQUAL, *self.methods)))

    @property
    def shortened(self) -> BenchOptions:
        """What of it a quick run measures."""
        return BenchOptions(
            self.size,
            self.network,
            self.methods,
            tuple(way for way in self.ways if "compiled" not in way) or ("eager",),
            tuple(name for name in self.precision if name != "bf16") or ("float32",),
            updates=min(self.updates, 50),
            rounds=min(self.rounds, 3),
            json=self.json,
        )


class GpuRow(TypedDict):
    """What updates of one method cost in one way of running."""

    method: str
    network: str
    tasks: int
    rows: int
    precision: str
    way: str
    device: str
    updates_per_second: float
    milliseconds: float
    ratio: float
    """Of the time to that of the ordinary update, run the same way."""
    ratio_to_equal: float
    """The same to the balanced update with equal weights."""
    kernels: int
    """Kernels of an update."""
    over_launch_limit: float
    """Time over the least that launching so many kernels takes."""
    over_arithmetic_limit: float
    """Time over that of the arithmetic at this device's best rate."""
    peak_megabytes: float
    """Most memory on the device at once, the replay included; zero where it is not measured."""


def measure(
    setting: Setting, chosen: BenchOptions, device: torch.device, recorder: Recorder | None
) -> dict[str, Cost]:
    """Measures all methods in one setting; they take turns."""
    contenders = {
        name: Contender(
            partial(make_learner, name, setting, chosen.size, chosen.network, device, recorder),
            device,
        )
        for name in chosen.names
    }
    shuffler = random.Random(0)
    for _ in range(chosen.rounds):
        for name in shuffler.sample(list(contenders), len(contenders)):
            contenders[name].take_turn(chosen.updates)
    return {name: contender.cost() for name, contender in contenders.items()}


def rows_of(
    setting: Setting, costs: Mapping[str, Cost], chosen: BenchOptions, rate: float, device: str
) -> list[GpuRow]:
    """One row per method of a setting.

    Args:
        setting: The setting.
        costs: What the methods cost in it.
        chosen: What was measured.
        rate: The device's operations per second in the setting's precision.
        device: Its name.
    """
    launch = _LAUNCH_SECONDS[setting.graphed]
    return [
        GpuRow(
            method=name,
            network=chosen.network,
            tasks=chosen.size.tasks,
            rows=chosen.size.rows,
            precision=setting.precision,
            way=setting.way,
            device=device,
            updates_per_second=1 / median(cost.seconds),
            milliseconds=1e3 * median(cost.seconds),
            ratio=_ratio(cost, costs[PLAIN]),
            ratio_to_equal=_ratio(cost, costs[EQUAL]),
            kernels=cost.kernels,
            over_launch_limit=median(cost.seconds) / (launch * cost.kernels),
            over_arithmetic_limit=median(cost.seconds) * rate / cost.operations,
            peak_megabytes=cost.megabytes,
        )
        for name, cost in costs.items()
    ]


def _ratio(cost: Cost, other: Cost) -> float:
    """Median over the rounds of the times' ratios."""
    return median(a / b for a, b in zip(cost.seconds, other.seconds, strict=True))


def measure_all(
    chosen: BenchOptions, device: torch.device, recorder: Recorder, show: Callable[[str], None]
) -> list[GpuRow]:
    """Measures every precision and way; one that fails is named and left out."""
    rows: list[GpuRow] = []
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    for precision in (known for known in PRECISIONS if known in chosen.precision):
        set_products(precision, device)
        rate = best_rate(precision, device)
        show(f"{name}, {precision}: large matrix products at {rate / 1e12:.3g} TFLOP/s")
        for way in (known for known in WAYS if known in chosen.ways):
            setting = Setting(precision, way)
            try:
                costs = measure(setting, chosen, device, recorder)
            except (RuntimeError, UserError) as error:
                # What the others cost is worth knowing all the same.
                show(f"{precision}, {way}: failed: {' '.join(str(error).split())[:300]}")
                continue
            rows += rows_of(setting, costs, chosen, rate, name)
    return rows


def table(rows: Sequence[GpuRow]) -> Table:
    """The rows for people."""
    names = ("precision", "way", "method", "updates/s", "ms", "/ plain", "/ equal", "kernels")
    shown = Table(*names, "/ launches", "/ arithmetic", "MB")
    for row in rows:
        shown.add_row(
            row["precision"],
            row["way"],
            row["method"],
            f"{row['updates_per_second']:.0f}",
            f"{row['milliseconds']:.3f}",
            f"{row['ratio']:.3f}",
            f"{row['ratio_to_equal']:.3f}",
            str(row["kernels"]),
            f"{row['over_launch_limit']:.2f}",
            f"{row['over_arithmetic_limit']:.2f}",
            f"{row['peak_megabytes']:.0f}",
        )
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used, or there is no CUDA.
    """
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    if not torch.cuda.is_available():
        raise UserError("there is no CUDA device here, and this measures nothing else")
    chosen = chosen.shortened if chosen.quick else chosen
    console = Console()
    rows = measure_all(chosen, torch.device("cuda"), CudaRecorder(), console.print)
    console.print(table(rows))
    write_rows(chosen.json, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
