"""Measures what balancing costs where all tasks read one input: a step against that of a plain sum.

A trunk of three layers and a head of two for each task; forward pass, losses row by row and what
comes before the optimiser. All ways take turns in one process on one thread, and the figure is the
median over the turns of a way's processor time over that of the plain sum's. Run it as
``python -m scripts.benchmarks.shared_input --tasks 40``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import process_time

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing import TaskBalancer, Weighting
from mtrl_ntk.balancing.methods import METHODS

Way = Callable[[], object]


class Network(nn.Module):
    """A trunk, and heads that read what it makes of one input."""

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 1)) for _ in range(tasks)
        )


class Steps:
    """Ways to come from one batch to the gradients of all parameters."""

    def __init__(self, tasks: int, rows: int, width: int) -> None:
        torch.manual_seed(0)
        self.tasks = tasks
        self.network = Network(tasks, width)
        self.inputs, self.targets = torch.randn(rows, width), torch.randn(tasks, rows)

    def losses(self) -> list[Tensor]:
        """Losses of each task, ``[rows]``."""
        z = self.network.trunk(self.inputs)
        pairs = zip(self.network.heads, self.targets, strict=True)
        return [(head(z)[:, 0] - targets).square() for head, targets in pairs]

    def plain(self) -> None:
        """The plain sum."""
        self.network.zero_grad()
        torch.stack(self.losses()).mean().backward()

    def balanced(self, weighting: Weighting) -> Way:
        """A balanced step by a method."""
        trunk, heads = self.network.trunk, self.network.heads
        balancer = TaskBalancer(weighting, trunk, heads, representation=trunk)

        def step() -> None:
            self.network.zero_grad()
            balancer.backward(torch.stack(self.losses()))

        return step


def turns(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Seconds of the processor that each way takes; a first turn of each does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            begin = process_time()
            way()
            times[name].append(process_time() - begin)
    return {name: found[1:] for name, found in times.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--methods", nargs="+", default=["ntkmtl_sr", "si", "ntkmtl", "upgrad"])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    steps = Steps(options.tasks, options.rows, options.width)
    ways: dict[str, Way] = {"plain sum": steps.plain}
    ways |= {name: steps.balanced(METHODS[name](options.tasks)) for name in options.methods}
    found = turns(ways, options.rounds)
    for name, times in found.items():
        pairs = zip(times, found["plain sum"], strict=True)
        ratio = statistics.median(seconds / plain for seconds, plain in pairs)
        print(f"{name:12} {1e3 * statistics.median(times):8.2f} ms {ratio:6.2f} x")


if __name__ == "__main__":
    main()
