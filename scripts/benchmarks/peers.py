"""Compares with what a user would pick instead: how many times as long the peers take.

Three contests, each in one process on the same hardware, whose members take turns in a new order
each round; a ratio is the median over the rounds of a peer's time divided by ours of that round.

A critic's balanced step, from the same network, batch and fixed targets to the same result:
``sequential`` is the published way, a backward pass per task; ``vmap`` is torch.func.vmap(grad);
``autojac`` and ``autogram`` are TorchJD's two ways. A whole SAC update: ``stable_baselines3`` has a
network of the same size and as many rows, and balances nothing. A step of all environments, in wall
clock: Gymnasium's two vector environments over stock ones, which get no more wrappers than a
horizon and episode statistics. The other contests count the CPU time of one thread.

What is not installed is left out, with a line; the optional dependencies ``bench`` bring all of it.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.rl.envs import ACTION_DIM, BENCHMARKS, OBSERVATION_DIM, EnvConfig, resolved_workers
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.suites.metaworld.simulation import draw_goals, make_sim
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.agents import Size, Variant, make_agent, make_batch
from scripts.benchmarks.command import check_folder, parse, run_command, write_rows
from scripts.benchmarks.envs import ASYNC, SYNC, Steppable, make_vector_envs, speed
from scripts.benchmarks.peer_steps import (
    AutogramStep,
    AutojacStep,
    CriticStep,
    OwnStep,
    SequentialStep,
    StableBaselinesUpdate,
    VmapStep,
)
from scripts.benchmarks.update import paced

PROG = "scripts.benchmarks.peers"
OURS = "ours"

_QUICK_SECONDS = {"critic": 18.0, "update": 22.0, "vector": 32.0}
"""Since the start of the program, by when the rounds of a quick run should have ended."""
_VECTOR_STEPS = 20

Seconds = Callable[[], float]
"""Does something once, and tells how long that took."""
Rounds = list[dict[str, float]]
"""Seconds of every round, by member of a contest."""


class Peer(NamedTuple):
    """What we compare with."""

    contest: str
    """``critic``, ``update`` or ``vector``."""
    package: str
    """What has to be installed."""


PEERS = {
    "sequential": Peer("critic", "torch"),
    "vmap": Peer("critic", "torch"),
    "autojac": Peer("critic", "torchjd"),
    "autogram": Peer("critic", "torchjd"),
    "stable_baselines3": Peer("update", "stable_baselines3"),
    SYNC: Peer("vector", "gymnasium"),
    ASYNC: Peer("vector", "gymnasium"),
}
_CRITIC_STEPS: dict[str, Callable[[Size], CriticStep]] = {
    OURS: OwnStep,
    "sequential": SequentialStep,
    "vmap": VmapStep,
    "autojac": AutojacStep,
    "autogram": AutogramStep,
}


@dataclass(frozen=True)
class BenchOptions(Settings):
    """What is measured, and how often."""

    size: Size = field(default_factory=Size)
    """Size"""
    peers: tuple[str, ...] = ()
    """Peers to compare with; by default all that are installed."""
    envs: int = number(10, at_least=1, limit=len(BENCHMARKS["MT50"]))
    """Environments of the vector environments: the first so many tasks of MT50."""
    workers: int = number(-1, at_least=-1)
    """Processes that step our environments; -1 chooses by cores, as in a run."""
    rounds: int = number(15, at_least=1)
    """Rounds that count, after one that does not."""
    quick: bool = False
    """No more rounds than end about half a minute after the start, but do one."""
    json: Path | None = None
    """File for the rows of the table."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names the first bad value."""
        super().__post_init__()
        for peer in self.peers:
            if peer not in PEERS:
                raise ConfigError(f"peers: unknown {peer!r}; {suggestion(peer, PEERS)}")
        check_folder("json", self.json)

    @property
    def round_numbers(self) -> range:
        """Numbers of the rounds; those below zero do not count."""
        return range(-1, self.rounds)

    @property
    def env_names(self) -> tuple[str, ...]:
        """Tasks of the vector environments, those of MT10 first."""
        return tuple(dict.fromkeys((*BENCHMARKS["MT10"], *BENCHMARKS["MT50"])))[: self.envs]


class PeerRow(TypedDict):
    """One peer."""

    what: str
    contest: str
    ratio: float
    """The peer's time over ours."""
    milliseconds: float
    own_milliseconds: float


class Step(Protocol):
    """Something that can be done again and again."""

    def step(self) -> None:
        """Does it once."""


def installed(peers: Sequence[str], console: Console) -> list[str]:
    """The peers that are there; says which are not."""
    found = []
    for name in peers:
        package = PEERS[name].package
        if find_spec(package) is None:
            console.print(f"skipped {name}: {package} is not installed; the extra bench brings it")
        else:
            found.append(name)
    return found


@contextmanager
def contest(name: str, peers: Sequence[str], chosen: BenchOptions) -> Iterator[dict[str, Seconds]]:
    """Makes ourselves and the peers of a contest; closes what has to be."""
    if name == "critic":
        steps = {key: _CRITIC_STEPS[key](chosen.size) for key in (OURS, *peers)}
        yield {key: partial(cpu_seconds, step) for key, step in steps.items()}
    elif name == "update":
        yield {
            OURS: partial(cpu_seconds, OwnUpdate(chosen.size)),
            "stable_baselines3": partial(cpu_seconds, StableBaselinesUpdate(chosen.size)),
        }
    else:
        with vector_envs(chosen) as made:
            wanted = {key: made[key] for key in (OURS, *peers)}
            yield {key: partial(seconds_per_step, env) for key, env in wanted.items()}


class OwnUpdate:
    """This package's whole SAC update with NTKMTL, from a replay memory that holds one batch."""

    def __init__(self, size: Size) -> None:
        device = torch.device("cpu")
        self._agent = make_agent(Variant("ntkmtl"), size, "shared", device)
        self._replay = MultiTaskReplayBuffer(
            size.tasks,
            size.rows,
            OBSERVATION_DIM,
            ACTION_DIM,
            device=device,
            generator=torch.Generator(device).manual_seed(0),
        )
        batch = make_batch(size, device)
        self._replay.add(
            batch.observations.numpy(),
            batch.actions.numpy(),
            batch.rewards.numpy(),
            batch.next_observations.numpy(),
            batch.terminated.bool().numpy(),
        )
        self._rows = size.rows

    def step(self) -> None:
        """Updates everything once."""
        self._agent.update(self._replay.sample(self._rows))


@contextmanager
def vector_envs(chosen: BenchOptions) -> Iterator[dict[str, Steppable]]:
    """Gymnasium's vector environments and ours, of the same tasks and goals."""
    rng = np.random.default_rng(0)
    goals = {task: draw_goals(make_sim(task), rng)[0] for task in chosen.env_names}
    workers = resolved_workers(EnvConfig(tasks=chosen.env_names, workers=chosen.workers))
    made: dict[str, Steppable] = {}
    try:
        for key, env in make_vector_envs(goals, (workers,)).items():
            made[OURS if key == str(workers) else key] = env
        yield made
    finally:
        for each in made.values():
            each.close()


def cpu_seconds(step: Step) -> float:
    """CPU seconds of this thread for a step."""
    start = time.thread_time()
    step.step()
    return time.thread_time() - start


def seconds_per_step(env: Steppable) -> float:
    """Seconds of wall clock for a step of all environments, with random actions."""
    rng = np.random.default_rng(0)
    shape = (_VECTOR_STEPS, env.num_envs, ACTION_DIM)
    actions: NDArray[np.float32] = rng.uniform(-1, 1, shape).astype(np.float32)
    return env.num_envs / speed(env, actions)


def measure(members: Mapping[str, Seconds], numbers: range, deadline: float) -> Rounds:
    """Times all members in every round."""
    shuffler = random.Random(0)
    rounds = []
    for index in paced(numbers, deadline):
        # In a fixed order, one would always find the caches as the same other one left them.
        order = shuffler.sample(list(members), len(members))
        seconds = {name: members[name]() for name in order}
        if index >= 0:
            rounds.append(seconds)
    return rounds


def summarize(rounds: Rounds) -> list[PeerRow]:
    """One row per peer."""
    return [
        PeerRow(
            what=name,
            contest=PEERS[name].contest,
            ratio=median(seconds[name] / seconds[OURS] for seconds in rounds),
            milliseconds=1e3 * median(seconds[name] for seconds in rounds),
            own_milliseconds=1e3 * median(seconds[OURS] for seconds in rounds),
        )
        for name in PEERS
        if name in rounds[0]
    ]


def bench(chosen: BenchOptions, started: float, console: Console) -> list[PeerRow]:
    """Measures every contest that has a peer."""
    peers = installed(chosen.peers or tuple(PEERS), console)
    rows = []
    for name, seconds in _QUICK_SECONDS.items():
        own = [peer for peer in peers if PEERS[peer].contest == name]
        if own:
            deadline = started + seconds if chosen.quick else math.inf
            with contest(name, own, chosen) as members:
                rows += summarize(measure(members, chosen.round_numbers, deadline))
    return rows


def table(rows: Sequence[PeerRow]) -> Table:
    """The rows for people: one line per peer."""
    shown = Table("contest", "peer", "ratio", "ms", "ours ms", title="peer's time over ours")
    for row in rows:
        numbers = (f"{row['milliseconds']:.2f}", f"{row['own_milliseconds']:.2f}")
        shown.add_row(row["contest"], row["what"], f"{row['ratio']:.2f}", *numbers)
    return shown


def run(argv: Sequence[str]) -> None:
    """Measures and reports as the arguments say.

    Raises:
        UserError: If the arguments cannot be used.
    """
    started = time.monotonic()
    chosen = parse(PROG, __doc__, BenchOptions(), argv)
    # thread_time() sees this thread only.
    torch.set_num_threads(1)
    console = Console()
    rows = bench(chosen, started, console)
    console.print(table(rows))
    write_rows(chosen.json, rows)


def main(argv: Sequence[str]) -> int:
    """Runs the command; a mistake of the user is one line and the exit code 2."""
    return run_command(PROG, run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
