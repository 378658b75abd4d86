"""Measures what balancing costs where all tasks read one input: a step against that of a plain sum.

A trunk of three linear layers, or of nine convolutions with batch normalisation, and a head of two
layers for each task; or ``cnn9``, the network of CelebA's forty tasks on noise of its size, whose
times by method are Fig. 1 of the NTKMTL paper. Forward pass, losses row by row and what comes
before the optimiser. All ways take turns in one process on one thread, and the figure is the median
over the turns of a way's processor time over that of the plain sum's. Memory is the largest that
PyTorch held more than before the step, gradients and what is kept between steps included. Run it as
``python -m scripts.benchmarks.shared_input --trunk cnn9 --csv times.csv``: a few minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.profiler import ProfilerActivity, profile

from mtrl_ntk.balancing import TaskBalancer, Weighting
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment.files.csv_files import write_rows
from mtrl_ntk.supervised.datasets.dataset import Examples
from mtrl_ntk.supervised.networks.cnn9 import CNN9, CNN9Config
from mtrl_ntk.supervised.tasks import Attribute

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


class Network(nn.Module):
    """A trunk of some features, and heads that read what it makes of one input."""

    def __init__(self, tasks: int, trunk: nn.Module, features: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(
            {
                str(task): nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, 1))
                for task in range(tasks)
            }
        )


def linear_network(tasks: int, width: int) -> Network:
    """A network of linear layers."""
    return Network(tasks, layers(width), width)


def convolutional_network(tasks: int, width: int) -> Network:
    """A network of convolutions."""
    return Network(tasks, convolutions(width), 8 * width)


FACES = (3, 64, 64)


def network_of_faces(tasks: int, width: int) -> CNN9:
    """The network of CelebA."""
    return CNN9(CNN9Config(width), FACES, [Attribute(str(task)) for task in range(tasks)])


class Kind(NamedTuple):
    """A network, and at what sizes it is measured by default."""

    make: Callable[[int, int], Network | CNN9]
    """Makes it for so many tasks, of a width."""
    shape: tuple[int, ...]
    """Shape of an input; empty for as many numbers as the width."""
    width: int
    rows: int
    rounds: int
    methods: tuple[str, ...]


_FEW = ("ntkmtl_sr", "si", "ntkmtl", "upgrad")
TRUNKS = {
    "linear": Kind(linear_network, (), 512, 128, 31, _FEW),
    "convolutions": Kind(convolutional_network, (3, 32, 32), 32, 128, 31, _FEW),
    "cnn9": Kind(network_of_faces, FACES, 16, 16, 9, (*METHODS,)),
}
"""Networks by the name of their trunk."""


class Steps:
    """Ways to come from one batch to the gradients of all parameters."""

    def __init__(self, tasks: int, rows: int, width: int, trunk: str = "linear") -> None:
        torch.manual_seed(0)
        kind = TRUNKS[trunk]
        self.tasks, self.network = tasks, kind.make(tasks, width)
        self.targets = torch.randint(2, (tasks, rows)).float()
        inputs = torch.randn(rows, *(kind.shape or (width,)))
        self.inputs = Examples(inputs, {}).to(torch.device("cpu")).inputs

    def losses(self, features: Tensor | None = None) -> list[Tensor]:
        """Losses of each task, ``[rows]``."""
        z = self.network.trunk(self.inputs) if features is None else features
        pairs = zip(self.network.heads.values(), self.targets, strict=True)
        return [
            binary_cross_entropy_with_logits(head(z)[:, 0], targets, reduction="none")
            for head, targets in pairs
        ]

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
            if weighting.observes_step:
                with torch.no_grad():
                    balancer.observe(self.losses())

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


def report(
    makers: dict[str, Callable[[], Way]], network: nn.Module, rounds: int
) -> list[dict[str, object]]:
    """Prints each way's time, its ratio to that of the first, and its memory; returns the rows."""
    found = turns({name: make() for name, make in makers.items()}, rounds)
    first, rows = next(iter(found.values())), list[dict[str, object]]()
    for name, times in found.items():
        ratio = statistics.median(own / other for own, other in zip(times, first, strict=True))
        held = peak(makers[name], network) / 1e6
        milliseconds = 1e3 * statistics.median(times)
        print(f"{name:24} {milliseconds:8.2f} ms {ratio:6.2f} x {held:8.1f} MB")
        numbers = {"milliseconds": milliseconds, "ratio": ratio, "megabytes": held}
        rows.append({"way": name, **{key: f"{value:.4g}" for key, value in numbers.items()}})
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--trunk", choices=TRUNKS, default="linear")
    for name in ("rows", "width", "rounds"):
        parser.add_argument(f"--{name}", type=int, help="by default what fits the network")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD")
    parser.add_argument("--csv", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    kind = TRUNKS[options.trunk]
    chosen = kind._replace(**{n: v for n in kind._fields if (v := getattr(options, n, None))})
    torch.set_num_threads(1)
    steps = Steps(options.tasks, chosen.rows, chosen.width, options.trunk)
    makers: dict[str, Callable[[], Way]] = {"plain sum": lambda: steps.plain}
    for name in chosen.methods:
        makers[name] = partial(steps.balanced, METHODS[name](options.tasks))
    rows = report(makers, steps.network, chosen.rounds)
    if options.csv is not None:
        write_rows(options.csv, rows)


if __name__ == "__main__":
    main()
