"""Measures what balancing costs: one SAC update, and its parts, against an ordinary one.

The ordinary update is the same agent with the same networks, batch, clipping and optimisers, but
without a tape: ``torch.autograd.grad`` of the mean loss. All variants take turns in one process, in
a new order each round, and a variant's cost is the median over the rounds of its time divided by
the ordinary update's of the same round. ``sequential`` is NTKMTL with one backward pass per task,
the published way.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mtrl_ntk.balancing import (
    BalancedStep,
    Balancer,
    Tape,
    Weighting,
    factored_jacobian,
    sequential_jacobian,
)
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.command_line import Parser
from mtrl_ntk.experiment.options import Device, options, suggestion, updated
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from mtrl_ntk.rl.types import Batch, Metrics

PROG = "bench_update.py"
PLAIN, SEQUENTIAL = "plain", "sequential"
PARTS = ("critic", "actor", "update")
VARIANTS = (*METHODS, SEQUENTIAL)

_OBSERVATION_DIM, _ACTION_DIM = 39, 4
"""Those of Meta-World, whose simulator is not needed here."""
_WARM_UP = 2
_LEAST_ROUNDS = 3
_QUICK_SECONDS = 30.0

Times = list[dict[str, dict[str, float]]]
"""Milliseconds of every round, by variant and part."""


@dataclass(frozen=True)
class BenchOptions:
    """What is measured, and how often."""

    tasks: int = 10
    """Tasks."""
    rows: int = 128
    """Replay rows per task."""
    width: int = 400
    """Units of each hidden layer."""
    depth: int = 3
    """Hidden layers."""
    minibatches: int = 1
    """Mini-batches per task, for the methods that have such an option."""
    methods: tuple[str, ...] = ()
    """Methods to measure, sequential among them; by default all."""
    rounds: int = 15
    """Rounds that count, after two that do not."""
    quick: bool = False
    """Begin no round later than half a minute after the first, unless three are not yet done."""
    device: Device = "cpu"
    """Where the agents learn; auto takes CUDA when there is any."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        for name in ("tasks", "rows", "width", "depth", "minibatches", "rounds"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        if self.rows % self.minibatches:
            raise ConfigError(f"minibatches is {self.minibatches}; it must divide {self.rows} rows")
        for method in self.methods:
            if method not in VARIANTS:
                raise ConfigError(f"unknown method {method!r}; {suggestion(method, VARIANTS)}")
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise ConfigError(f"json is {self.json}; its folder does not exist")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device is cuda; it is not available here")


class Row(TypedDict):
    """The cost of one part of a method's update."""

    method: str
    network: str
    tasks: int
    rows: int
    n: int
    part: str
    ratio: float
    milliseconds: float


class Stopwatch:
    """Times the parts of an update.

    On the CPU it counts the time that this thread was computing: the machine may be shared, and
    the wall clock also counts the time that others had the core. That needs one torch thread. On
    CUDA it counts from event to event, so that the host need not wait between the parts.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._spans: dict[str, tuple[Any, Any]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times what happens within."""
        start = self._now()
        yield
        self._spans[name] = (start, self._now())

    def _now(self) -> float | torch.cuda.Event:
        if not self._on_cuda:
            return time.thread_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def read(self) -> dict[str, float]:
        """Latest milliseconds by part, once the device is done."""
        if not self._on_cuda:
            return {name: 1e3 * (end - start) for name, (start, end) in self._spans.items()}
        torch.cuda.synchronize()
        return {name: start.elapsed_time(end) for name, (start, end) in self._spans.items()}


class TimedSAC(MultiTaskSAC):
    """An agent whose updates are timed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as its base class
        super().__init__(*args, **kwargs)
        self.stopwatch = Stopwatch(self.device)

    def update(self, *args: Any, **kwargs: Any) -> Metrics:  # noqa: ANN401
        """See the base class."""
        with self.stopwatch.part("update"):
            return super().update(*args, **kwargs)

    def update_critic(self, *args: Any, **kwargs: Any) -> BalancedStep:  # noqa: ANN401
        """See the base class."""
        with self.stopwatch.part("critic"):
            return super().update_critic(*args, **kwargs)

    def update_actor(self, *args: Any, **kwargs: Any) -> tuple[BalancedStep, Tensor]:  # noqa: ANN401
        """See the base class."""
        with self.stopwatch.part("actor"):
            return super().update_actor(*args, **kwargs)


class PlainStep(Balancer):
    """One ordinary step on the mean loss."""

    def step(
        self,
        tape: Tape,
        sample_losses: Tensor,
        *,
        diagnose: bool = False,  # noqa: ARG002 - there is nothing to diagnose
    ) -> BalancedStep:
        """Differentiates the mean of all losses and takes one optimiser step."""
        if tape.factors:
            raise RuntimeError("the ordinary update ran through a tape, which is not ordinary")
        gradients = torch.autograd.grad(sample_losses.mean(), self.parameters)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.step()
        losses = sample_losses.detach().mean(1)
        zeros = torch.zeros_like(losses)
        return BalancedStep(
            losses=losses,
            weights=zeros,
            eigenvalues=zeros,
            skipped=zeros,
            gradient_norm=norm,
            minimum_cosine=None,
        )


class PlainSAC(TimedSAC):
    """The same agent without balancing: no tape, one backward pass to the parameters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as its base class
        super().__init__(*args, **kwargs)
        self.critic_balancer = _plain(self.critic_balancer)
        self.actor_balancer = _plain(self.actor_balancer)
        for network in (self.critic, self.actor):
            network.register_forward_pre_hook(_without_tape)


def _plain(balancer: Balancer) -> PlainStep:
    return PlainStep(
        balancer.parameters, balancer.weighting, balancer.optimizer, balancer.max_grad_norm
    )


def _without_tape(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(argument for argument in arguments if not isinstance(argument, Tape))


def make_agent(variant: str, chosen: BenchOptions, device: torch.device) -> TimedSAC:
    """Makes an untrained agent: a method's, ``sequential`` or ``plain``."""
    method = {PLAIN: "equal", SEQUENTIAL: "ntkmtl"}.get(variant, variant)
    return (PlainSAC if variant == PLAIN else TimedSAC)(
        chosen.tasks,
        _OBSERVATION_DIM,
        _ACTION_DIM,
        config=SacConfig(batch_size=chosen.rows, width=chosen.width, depth=chosen.depth),
        make_weighting=lambda: make_weighting(method, chosen),
        seed=0,
        device=device,
        differentiate=sequential_jacobian if variant == SEQUENTIAL else factored_jacobian,
    )


def make_weighting(method: str, chosen: BenchOptions) -> Weighting:
    """Makes a balancing method, with the mini-batches asked for if it has such an option."""
    config_class = METHODS[method].config_class
    takes_minibatches = "num_minibatches" in {field.name for field in fields(config_class)}
    config = config_class(**{"num_minibatches": chosen.minibatches} if takes_minibatches else {})
    return METHODS[method](chosen.tasks, config)


def make_batch(chosen: BenchOptions, device: torch.device) -> Batch:
    """Draws a batch of random transitions, none of them terminal."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*features: int) -> Tensor:
        shape = (chosen.tasks, chosen.rows, *features)
        return torch.randn(shape, generator=generator, device=device)

    return Batch(
        draw(_OBSERVATION_DIM),
        draw(_ACTION_DIM).tanh(),
        draw(),
        draw(_OBSERVATION_DIM),
        torch.zeros_like(draw()),
    )


def measure(chosen: BenchOptions) -> Times:
    """Times every variant in every round; sequential, which takes so long, in every other one."""
    use_cuda = chosen.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if use_cuda else "cpu")
    agents = {
        variant: make_agent(variant, chosen, device)
        for variant in (PLAIN, *(chosen.methods or VARIANTS))
    }
    batch = make_batch(chosen, device)
    shuffler = random.Random(0)
    deadline = time.monotonic() + _QUICK_SECONDS
    rounds: Times = []
    for index in range(-_WARM_UP, chosen.rounds):
        if chosen.quick and index >= _LEAST_ROUNDS and time.monotonic() > deadline:
            break
        taking_part = [variant for variant in agents if variant != SEQUENTIAL or index % 2 == 0]
        # In a fixed order, a variant would always find the caches as the same other one left them.
        shuffler.shuffle(taking_part)
        rounds.append({variant: timed_update(agents[variant], batch) for variant in taking_part})
    return rounds[_WARM_UP:]


def timed_update(agent: TimedSAC, batch: Batch) -> dict[str, float]:
    """Milliseconds of one update, by part."""
    agent.update(batch)
    return agent.stopwatch.read()


def summarize(rounds: Times, chosen: BenchOptions) -> list[Row]:
    """One row per variant and part."""
    return [
        Row(
            method=variant,
            network="shared",
            tasks=chosen.tasks,
            rows=chosen.rows,
            n=chosen.minibatches,
            part=part,
            ratio=median(times[variant][part] / times[PLAIN][part] for times in own_rounds),
            milliseconds=median(times[variant][part] for times in own_rounds),
        )
        for variant in (PLAIN, *(chosen.methods or VARIANTS))
        for own_rounds in [[times for times in rounds if variant in times]]
        for part in PARTS
    ]


def table(rows: list[Row]) -> Table:
    """The rows for people: one line per method."""
    shown = Table("method", *PARTS, "update in ms")
    for method in dict.fromkeys(row["method"] for row in rows):
        own = {row["part"]: row for row in rows if row["method"] == method}
        ratios = [f"{own[part]['ratio']:.3f}" for part in PARTS]
        shown.add_row(method, *ratios, f"{own['update']['milliseconds']:.2f}")
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used.
    """
    parser = Parser(PROG, description=__doc__ or "")
    parser.add_options(options(BenchOptions()))
    chosen = updated(BenchOptions(), parser.parse(argv, elsewhere={}))
    # thread_time() sees this thread only.
    torch.set_num_threads(1)
    rounds = measure(chosen)
    rows = summarize(rounds, chosen)
    console = Console()
    console.print(
        f"{chosen.tasks} tasks, {chosen.rows} rows each, {chosen.depth} x {chosen.width} units, "
        f"n = {chosen.minibatches}: medians of {len(rounds)} rounds, as multiples of plain"
    )
    console.print(table(rows))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    try:
        run(argv)
    except UserError as error:
        print(f"{PROG}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
