"""Measures what balancing costs where all tasks read one input: a step against that of a plain sum.

A trunk of three linear layers, or of nine convolutions with batch normalisation, and a head of two
layers for each task; forward pass, losses row by row and what comes before the optimiser. All ways
take turns in one process on one thread, and the figure is the median over the turns of a way's
processor time over that of the plain sum's. Memory is the largest that PyTorch held more than
before the step, gradients and what is kept between steps included. Run it as
``python -m scripts.benchmarks.shared_input --tasks 40 --trunk convolutions --width 32``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mtrl_ntk.balancing import TaskBalancer, Weighting
from mtrl_ntk.balancing.methods import METHODS

Way = Callable[[], object]


def layers(width: int) -> nn.Sequential:
    """Three linear layers from ``[rows, width]`` to as many features."""
    return nn.Sequential(
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
    )


def convolutions(width: int) -> nn.Sequential:
    """Nine convolutions from images ``[rows, 3, 32, 32]`` to eight times the width's features."""
    widths = [3] + [factor * width for factor in (1, 1, 2, 2, 4, 4, 8, 8, 8)]
    made: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(widths)):
        stride = 2 if before != after else 1
        made += [
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=index > 0),
        ]
    return nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten())


TRUNKS = {"linear": (layers, 1), "convolutions": (convolutions, 8)}
"""What makes a trunk of a width, and how many times the width its features are."""


class Network(nn.Module):
    """A trunk, and heads that read what it makes of one input."""

    def __init__(self, tasks: int, width: int, trunk: str) -> None:
        super().__init__()
        make, factor = TRUNKS[trunk]
        self.trunk = make(width)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(factor * width, 32), nn.ReLU(), nn.Linear(32, 1))
            for _ in range(tasks)
        )


class Steps:
    """Ways to come from one batch to the gradients of all parameters."""

    def __init__(self, tasks: int, rows: int, width: int, trunk: str = "linear") -> None:
        torch.manual_seed(0)
        self.tasks = tasks
        self.network = Network(tasks, width, trunk)
        shape = (width,) if trunk == "linear" else (3, 32, 32)
        self.inputs, self.targets = torch.randn(rows, *shape), torch.randn(tasks, rows)

    def losses(self, features: Tensor | None = None) -> list[Tensor]:
        """Losses of each task, ``[rows]``."""
        z = self.network.trunk(self.inputs) if features is None else features
        pairs = zip(self.network.heads, self.targets, strict=True)
        return [(head(z)[:, 0] - targets).square() for head, targets in pairs]

    def plain(self) -> None:
        """The plain sum."""
        self.network.zero_grad()
        torch.stack(self.losses()).mean().backward()

    def balanced(self, weighting: Weighting, rows_at_once: int | None = None) -> Way:
        """A balanced step by a method."""
        trunk, heads = self.network.trunk, self.network.heads
        balancer = TaskBalancer(
            weighting, trunk, heads, representation=trunk, rows_at_once=rows_at_once
        )

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


def peak(make: Callable[[], Way], network: nn.Module) -> int:
    """Most bytes that PyTorch held more than before, while a way was made and gone once."""
    network.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        make()()
    results: Any = profiler.profiler
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    changes: list[int] = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return max(accumulate(changes, initial=0))


def report(makers: dict[str, Callable[[], Way]], network: nn.Module, rounds: int) -> None:
    """Prints each way's time, its ratio to that of the first, and its memory."""
    found = turns({name: make() for name, make in makers.items()}, rounds)
    first = next(iter(found.values()))
    for name, times in found.items():
        ratio = statistics.median(own / other for own, other in zip(times, first, strict=True))
        held = peak(makers[name], network) / 1e6
        milliseconds = 1e3 * statistics.median(times)
        print(f"{name:24} {milliseconds:8.2f} ms {ratio:6.2f} x {held:8.1f} MB")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--trunk", choices=TRUNKS, default="linear")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--methods", nargs="+", default=["ntkmtl_sr", "si", "ntkmtl", "upgrad"])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    steps = Steps(options.tasks, options.rows, options.width, options.trunk)
    makers: dict[str, Callable[[], Way]] = {"plain sum": lambda: steps.plain}
    for name in options.methods:
        makers[name] = partial(steps.balanced, METHODS[name](options.tasks))
    report(makers, steps.network, options.rounds)


if __name__ == "__main__":
    main()
