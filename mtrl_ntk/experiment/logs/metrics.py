"""What happens between two rows of the training log."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtrl_ntk.experiment.types import Counts
from mtrl_ntk.rl.types import Metrics

_RECENT_EPISODES = 20


class MetricMeans:
    """Means of update metrics, summed on the device and fetched once.

    The sums stay where they are, so that a recorded update can go on adding to them.

    Args:
        device: Where the metrics are.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last fetch."""
        return not self._counts

    def add(self, metrics: Metrics) -> None:
        """Adds the metrics of one update, without waiting for the device."""
        self.accumulate(metrics)
        self.count(metrics)

    def accumulate(self, metrics: Metrics) -> None:
        """Adds to the sums only: what of :meth:`add` happens on the device."""
        known = [name for name in metrics if name in self._counts]
        if known:
            torch._foreach_add_([self._sums[n] for n in known], [metrics[n] for n in known])
        for name, value in metrics.items():
            if name not in self._counts:
                self._begin(name, value)

    def count(self, names: Iterable[str]) -> None:
        """Counts one update that had metrics of these names: the rest of :meth:`add`."""
        for name in names:
            self._counts[name] = self._counts.get(name, 0) + 1

    def _begin(self, name: str, value: Tensor) -> None:
        if name in self._sums:
            self._sums[name].copy_(value)
        else:
            self._sums[name] = value.clone()

    def fetch(self) -> dict[str, npt.NDArray[np.float64]]:
        """Copies the means to the host and starts anew."""
        names = list(self._counts)
        flat = torch.cat([self._sums[name].reshape(-1) for name in names]).double().cpu()
        parts = flat.split([self._sums[name].numel() for name in names])
        means = {
            name: part.numpy().reshape(self._sums[name].shape) / self._counts[name]
            for name, part in zip(names, parts, strict=True)
        }
        self._counts = {}
        return means

    def state(self) -> dict[str, Any]:
        """What was added since the last fetch."""
        return {
            "sums": {name: self._sums[name] for name in self._counts},
            "counts": dict(self._counts),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`."""
        # In the order of the first update, which is that of the columns.
        self._counts = dict(state["counts"])
        for name in self._counts:
            self._begin(name, state["sums"][name].to(self._device))


class EpisodeStatistics:
    """Success and return of each task's latest training episodes.

    Args:
        num_tasks: Number of tasks.
    """

    def __init__(self, num_tasks: int) -> None:
        self._successes = [deque[float](maxlen=_RECENT_EPISODES) for _ in range(num_tasks)]
        self._returns = [deque[float](maxlen=_RECENT_EPISODES) for _ in range(num_tasks)]

    def add(self, infos: Mapping[str, Any]) -> None:
        """Takes in the episodes that ended in a step, given the vector environment's infos."""
        if "final_info" not in infos:
            return
        final = infos["final_info"]
        copies = len(infos["_final_info"]) // len(self._successes)
        for index in np.flatnonzero(infos["_final_info"]):
            self._successes[index // copies].append(float(final["success"][index]))
            self._returns[index // copies].append(float(final["episode"]["r"][index]))

    def state(self) -> dict[str, Any]:
        """The latest episodes by task."""
        return {
            "successes": [list(recent) for recent in self._successes],
            "returns": [list(recent) for recent in self._returns],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`."""
        for name, recent in (("successes", self._successes), ("returns", self._returns)):
            for values, saved in zip(recent, state[name], strict=True):
                values.clear()
                values.extend(map(float, saved))

    @property
    def success_rates(self) -> npt.NDArray[np.float64]:
        """Share of successes per task, NaN before its first episode ended, ``[tasks]``."""
        return _means(self._successes)

    @property
    def mean_returns(self) -> npt.NDArray[np.float64]:
        """Mean undiscounted return per task, NaN before its first episode ended, ``[tasks]``."""
        return _means(self._returns)


def _means(values: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    return np.array([np.mean(recent) if recent else math.nan for recent in values])


class WorkerRestarts:
    """Counts the environment workers that had to be replaced, and passes on what is said of each.

    Args:
        show: Shows a line.

    Attributes:
        count: Restarts since the beginning of the run.
    """

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self.count = 0

    def __call__(self, message: str) -> None:
        """Takes in one restart."""
        self.count += 1
        self._show(message)

    def state(self) -> int:
        """Restarts so far."""
        return self.count

    def restore(self, state: int) -> None:
        """Goes on from a :meth:`state`."""
        self.count = int(state)


class Rates:
    """What is counted, per second since the last look, pauses left out.

    Args:
        names: Names of the counts.

    Attributes:
        paused_s: Seconds of all pauses.
    """

    def __init__(self, *names: str) -> None:
        self.paused_s = 0.0
        self._start = time.perf_counter()
        self._counts = dict.fromkeys(names or ("env_steps", "updates"), 0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time of what the loop does besides, such as an evaluation."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._start += seconds
            self.paused_s += seconds

    def lap(self, counters: Counts) -> tuple[float, ...]:
        """Returns the rates since the last lap."""
        now = time.perf_counter()
        counts = {name: getattr(counters, name) for name in self._counts}
        seconds, before = now - self._start, self._counts
        self._start, self._counts = now, counts
        return tuple((counts[name] - before[name]) / seconds for name in counts)

    def state(self) -> dict[str, Any]:
        """What the next lap begins with."""
        return {"seconds": time.perf_counter() - self._start, **self._counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`; the time since then does not count."""
        self._start = time.perf_counter() - float(state["seconds"])
        self._counts = {name: int(state[name]) for name in self._counts}


def scalars(
    metrics: Mapping[str, npt.NDArray[np.float64]], task_names: Sequence[str]
) -> dict[str, float]:
    """Names each number: ``name``, or ``name/{task}`` where there is one per task."""
    named: dict[str, float] = {}
    for name, values in metrics.items():
        if values.ndim == 0:
            named[name] = float(values)
        else:
            named |= {
                f"{name}/{task}": float(v) for task, v in zip(task_names, values, strict=True)
            }
    return named
