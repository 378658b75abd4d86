"""Updates of a run on a GPU, and what they cost there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mtrl_ntk.experiment.logs.metrics import MetricMeans
from mtrl_ntk.experiment.training.learner import Learner
from mtrl_ntk.rl.cuda_graph import Recorder
from mtrl_ntk.rl.precision import Precision
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from scripts.benchmarks.agents import ACTION_DIM, OBSERVATION_DIM, Size, Variant, make_agent

_SETTLING_UPDATES = 8
"""Updates before a measurement: the diagnosed one, warm-ups, the recording, replays."""
_CEILING_SIZE = 8192
_CEILING_REPEATS = 20
_TRANSITIONS = 10_000


class Setting(NamedTuple):
    """What all methods have in common that are compared with one another."""

    precision: Precision
    way: str

    @property
    def graphed(self) -> bool:
        """Whether updates are recorded."""
        return "graphed" in self.way

    @property
    def compiled(self) -> bool:
        """Whether updates are compiled."""
        return "compiled" in self.way


class Cost(NamedTuple):
    """What an update of a method costs."""

    seconds: list[float]
    """By round."""
    kernels: int
    operations: int
    """Floating-point operations of its matrix products."""
    megabytes: float


class Untimed:
    """In place of an agent's stopwatch: a graph cannot record events that are read between."""

    @contextmanager
    def part(self, _: str) -> Iterator[None]:
        """Times nothing."""
        yield


def make_learner(
    name: str,
    setting: Setting,
    size: Size,
    network: str,
    device: torch.device,
    recorder: Recorder | None = None,
) -> Learner:
    """An agent with a replay of random transitions, which updates as a run does."""
    variant = Variant(name, precision=setting.precision)
    agent = make_agent(variant, size, network, device)
    agent.stopwatch = Untimed()  # type: ignore[assignment]
    return Learner(
        agent,
        make_replay(size, device),
        MetricMeans(),
        recorder=recorder if setting.graphed else None,
        compiled=setting.compiled,
    )


def make_replay(size: Size, device: torch.device) -> MultiTaskReplayBuffer:
    """A full replay of random transitions."""
    replay = MultiTaskReplayBuffer(
        size.tasks,
        _TRANSITIONS,
        OBSERVATION_DIM,
        ACTION_DIM,
        device=device,
        generator=torch.Generator(device).manual_seed(0),
    )
    generator = np.random.default_rng(0)
    shape = (size.tasks * _TRANSITIONS, replay.row_width)
    rows = generator.standard_normal(shape, dtype=np.float32)
    rows[:, -1] = 0.0  # none is terminal
    replay.put(replay.inserted, np.full(size.tasks, _TRANSITIONS), rows)
    return replay


def synchronize(device: torch.device) -> None:
    """Waits until a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(procedure: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Seconds of one run of a procedure, of so many in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        procedure()
    synchronize(device)
    return (time.perf_counter() - start) / repeats


def count_kernels(procedure: Callable[[], object], device: torch.device) -> int:
    """Kernels that a procedure starts; on the CPU, its operations."""
    on_cuda = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU
    kind = DeviceType.CUDA if on_cuda else DeviceType.CPU
    with profile(activities=[activity]) as profiler:
        procedure()
        synchronize(device)
    return sum(event.device_type == kind for event in profiler.events() or [])


def count_operations(learner: Learner) -> int:
    """Floating-point operations of the matrix products of an update."""
    batch = learner.replay.sample(learner.agent.config.batch_size)
    with FlopCounterMode(display=False) as counter:
        learner.agent.update(batch)
    return int(counter.get_total_flops())


def best_rate(precision: Precision, device: torch.device, size: int = _CEILING_SIZE) -> float:
    """Operations per second of large matrix products in a precision, which has been set."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    out = left @ right
    seconds = seconds_of(lambda: torch.mm(left, right, out=out), _CEILING_REPEATS, device)
    return float(2 * size**3 / seconds)


class Contender:
    """A method in one setting, which has updated until nothing new happens any more."""

    def __init__(self, make: Callable[[], Learner], device: torch.device) -> None:
        self._device = device
        before = _start_memory(device)
        self.learner = make()
        for _ in range(_SETTLING_UPDATES):
            self.learner.update()
        self._megabytes = (_peak_memory(device) - before) / 1e6
        self._seconds: list[float] = []

    def take_turn(self, updates: int) -> None:
        """Times so many updates."""
        self._seconds.append(seconds_of(self.learner.update, updates, self._device))

    def cost(self) -> Cost:
        """What it was found to cost."""
        kernels = count_kernels(self.learner.update, self._device)
        return Cost(self._seconds, kernels, count_operations(self.learner), self._megabytes)


def _start_memory(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak_memory(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
