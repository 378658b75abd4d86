"""Measures what compiling an update does on the CPU: to the numbers, and to the time.

Agents with the same beginning learn from the same transitions and noise: operation by operation,
compiled, and operation by operation from parameters that were changed by a unit of rounding. After
some updates they are compared: the parameters of actor and critic, and the losses and weights of
the tasks in the next update. A difference is relative: the length of it over that of the vector.
Then the first two take turns in one process; the ratio of times is the median over rounds. It needs
a C++ compiler.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypedDict

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.training.learner import Learner
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.agents import EQUAL, Size, Variant
from scripts.benchmarks.command import check_folder, check_names, parse, run_command, write_rows
from scripts.benchmarks.gpu_updates import Setting, make_learner, seconds_of

PROG = "scripts.benchmarks.compile"
CPU = torch.device("cpu")
_TURN = 5
"""Updates of each round."""

Snapshot = Mapping[str, Tensor]
"""What is compared, by name."""


@dataclass(frozen=True)
class BenchOptions(Settings):
    """What is compared and timed."""

    size: Size = field(default_factory=Size)
    """Size"""
    methods: tuple[str, ...] = (EQUAL, "ntkmtl")
    """Balancing methods."""
    updates: int = number(100, at_least=1)
    """Most updates after which the agents are compared; besides, after 1, 10, 100 and so on."""
    rounds: int = number(9, at_least=1)
    """Rounds of the timing."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        check_folder("json", self.json)
        check_names("methods", self.methods, tuple(METHODS))
        for method in self.methods:
            if not Variant(method).fits("shared"):
                raise ConfigError(f"method {method} cannot balance the network shared")

    @property
    def counts(self) -> list[int]:
        """Updates after which agents are compared."""
        powers = [10**power for power in range(len(str(self.updates)))]
        return sorted({*powers, self.updates})


class CompileRow(TypedDict):
    """By how much an agent differs from one whose updates run operation by operation."""

    method: str
    agent: str
    updates: int
    parameters: float
    losses: float
    weights: float
    time: float
    """Of an update, over that of one operation by operation."""


def snapshots(learner: Learner, counts: Sequence[int]) -> Iterator[Snapshot]:
    """What a learner is after so many updates of its own, which follow one that is never compiled.

    Each snapshot takes one more update, operation by operation.
    """
    agent = learner.agent
    learner.update()
    for more in (later - sooner for sooner, later in zip((0, *counts), counts, strict=False)):
        for _ in range(more):
            learner.update()
        networks = [*agent.actor.parameters(), *agent.critic.parameters()]
        parameters = torch.cat([parameter.detach().flatten() for parameter in networks])
        metrics = agent.update(learner.replay.sample(agent.config.batch_size))
        yield {
            "parameters": parameters,
            **{
                name: torch.cat([metrics[f"{name}/{part}"] for part in ("critic", "actor")])
                for name in ("losses", "weights")
            },
        }


def difference(found: Tensor, expected: Tensor) -> float:
    """Length of a difference over that of what is expected."""
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def changed_by_rounding(learner: Learner) -> Learner:
    """Moves each parameter of actor and critic up by one unit of rounding."""
    for network in (learner.agent.actor, learner.agent.critic):
        for parameter in network.parameters():
            parameter.copy_(parameter.nextafter(torch.full_like(parameter, torch.inf)))
    return learner


def compare(method: str, chosen: BenchOptions) -> list[CompileRow]:
    """Rows of a method: what a compiled agent and a slightly changed one differ by."""

    def make(way: str) -> Learner:
        return make_learner(method, Setting("float32", way), chosen.size, "shared", CPU)

    eager = make("eager")
    others = {"compiled": make("compiled"), "rounded": changed_by_rounding(make("eager"))}
    expected = list(snapshots(eager, chosen.counts))
    found = {name: list(snapshots(other, chosen.counts)) for name, other in others.items()}
    times = {name: ratio(other, eager, chosen.rounds) for name, other in others.items()}
    return [
        CompileRow(
            method=method,
            agent=name,
            updates=count,
            parameters=difference(one["parameters"], reference["parameters"]),
            losses=difference(one["losses"], reference["losses"]),
            weights=difference(one["weights"], reference["weights"]),
            time=times[name],
        )
        for name, taken in found.items()
        for count, one, reference in zip(chosen.counts, taken, expected, strict=True)
    ]


def ratio(learner: Learner, other: Learner, rounds: int) -> float:
    """Median over rounds of how much longer a learner's updates take than another's."""
    return median(
        seconds_of(learner.update, _TURN, CPU) / seconds_of(other.update, _TURN, CPU)
        for _ in range(rounds)
    )


def table(rows: Sequence[CompileRow]) -> Table:
    """The rows for people."""
    shown = Table("method", "agent", "updates", "parameters", "losses", "weights", "time")
    for row in rows:
        shown.add_row(
            row["method"],
            row["agent"],
            str(row["updates"]),
            *(f"{row[name]:.1e}" for name in ("parameters", "losses", "weights")),
            f"{row['time']:.2f}",
        )
    return shown


def run(argv: Sequence[str]) -> None:
    """Compares and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used, or updates cannot be compiled here.
    """
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    torch.set_num_threads(1)
    rows = [row for method in chosen.methods for row in compare(method, chosen)]
    Console().print(table(rows))
    write_rows(chosen.json, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
