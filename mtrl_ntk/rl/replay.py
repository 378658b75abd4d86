"""Replay memory of all tasks on the learner's device, and how arrays of the host get there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from mtrl_ntk.errors import RunFailed, UserError
from mtrl_ntk.rl.types import Batch, FloatArray

_ALIGNMENT = 8  # bytes, which any type's numbers can start at


class MultiTaskReplayBuffer:
    """One ring of transitions per task, each transition one packed float32 row.

    A row holds observation, action, reward, next observation and termination; the task is implied
    by the row's index. Memory is
    ``4 * num_tasks * capacity * (2 * observation_dim + action_dim + 2)`` bytes: 336 bytes a
    transition in Meta-World, 336 MB for ten tasks with 100 000 transitions each.

    Args:
        num_tasks: Number of rings.
        capacity: Transitions kept per task.
        observation_dim: Observation features.
        action_dim: Action features.
        device: Where the rows live and batches are drawn.
        generator: Random stream of the sampler, on the same device.

    Attributes:
        row_width: Numbers of a packed row.

    Raises:
        UserError: If the memory does not suffice.
    """

    def __init__(
        self,
        num_tasks: int,
        capacity: int,
        observation_dim: int,
        action_dim: int,
        *,
        device: torch.device,
        generator: torch.Generator,
    ) -> None:
        self.num_tasks = num_tasks
        self.capacity = capacity
        self._widths = [observation_dim, action_dim, 1, observation_dim, 1]
        self.row_width = sum(self._widths)
        _check_memory(4 * num_tasks * capacity * self.row_width, capacity, device)
        self.generator = generator
        self._rows = torch.zeros(num_tasks * capacity, self.row_width, device=device)
        self._first_rows = np.arange(num_tasks)[:, None] * capacity
        self._offsets = torch.from_numpy(self._first_rows).to(device)
        # The host knows where to write, the device how much there is to draw from.
        self._inserted = np.zeros(num_tasks, dtype=np.int64)
        self._sizes = torch.zeros(num_tasks, 1, dtype=torch.float64, device=device)
        self._staging = Staging(device)

    @property
    def nbytes(self) -> int:
        """Memory of the rows, in bytes."""
        return self._rows.nbytes

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Transitions held for each task, ``[tasks]``."""
        return np.minimum(self._inserted, self.capacity)

    @property
    def inserted(self) -> npt.NDArray[np.int64]:
        """Transitions that each task was ever given, ``[tasks]``; the last ``sizes`` are held."""
        return self._inserted.copy()

    def add(
        self,
        observations: FloatArray,
        actions: FloatArray,
        rewards: FloatArray,
        next_observations: FloatArray,
        terminated: FloatArray | npt.NDArray[np.bool_],
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Adds one transition of every environment copy; the oldest ones make room.

        Args:
            observations: ``[tasks, copies, observation]``.
            actions: ``[tasks, copies, action]``.
            rewards: ``[tasks, copies]``.
            next_observations: ``[tasks, copies, observation]``.
            terminated: As in a batch, ``[tasks, copies]``.
            valid: Transitions to keep, ``[tasks, copies]``; all when left out.
        """
        packed = np.concatenate(
            [
                observations,
                actions,
                rewards[..., None],
                next_observations,
                terminated[..., None],
            ],
            axis=-1,
            dtype=np.float32,
        )
        keep = np.ones(rewards.shape, dtype=np.bool_) if valid is None else valid
        numbers = keep.cumsum(axis=1)
        places = self._next_indices(keep, numbers)
        self._inserted += numbers[:, -1]
        sizes = self.sizes[:, None].astype(np.float64)
        indices, rows, sizes_there = self._staging.send(places, packed[keep], sizes)
        self._rows.index_copy_(0, indices, rows)
        self._sizes.copy_(sizes_there)

    def _next_indices(
        self, keep: npt.NDArray[np.bool_], numbers: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Row of each kept transition, given how many of its task are kept up to each one."""
        positions = self._inserted[:, None] + numbers - 1
        indices: npt.NDArray[np.int64] = (positions % self.capacity + self._first_rows)[keep]
        return indices

    def numbered(
        self, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Copies held transitions to the host; each task's are numbered from 0 as they come.

        Args:
            first: Number of each task's first transition wanted, ``[tasks]``.
            last: Number of each task's first one not wanted any more, ``[tasks]``.

        Returns:
            Packed rows ``[transitions, row_width]``, task after task.
        """
        indices = torch.from_numpy(self._indices(first, last)).to(self._rows.device)
        rows: npt.NDArray[np.float32] = self._rows.index_select(0, indices).cpu().numpy()
        return rows

    def put(
        self,
        first: npt.NDArray[np.int64],
        last: npt.NDArray[np.int64],
        rows: npt.NDArray[np.float32],
    ) -> None:
        """Takes up transitions that :meth:`numbered` gave, under their numbers.

        Raises:
            ValueError: If they do not continue those held, or are too many or too few.
        """
        counts = last - first
        if self._inserted.any() and (first != self._inserted).any():
            raise ValueError("transitions between these and those held are missing")
        if (first < 0).any() or (counts < 0).any() or (counts > self.capacity).any():
            raise ValueError(f"transitions {first} to {last} do not fit {self.capacity} places")
        shape = (int(counts.sum()), self.row_width)
        if rows.shape != shape or rows.dtype != np.float32:
            raise ValueError(f"rows are {rows.dtype} {rows.shape}, not float32 {shape}")
        indices = torch.from_numpy(self._indices(first, last)).to(self._rows.device)
        self._rows.index_copy_(0, indices, torch.from_numpy(rows).to(self._rows.device))
        self._inserted[:] = last
        self._sizes.copy_(torch.from_numpy(self.sizes[:, None]))

    def _indices(
        self, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Rows of the transitions of these numbers, task after task."""
        numbers = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        rings = [
            task * self.capacity + number % self.capacity for task, number in enumerate(numbers)
        ]
        return np.concatenate(rings)

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> Batch:
        """Draws transitions uniformly, with replacement, without waiting for the device.

        Args:
            batch_size: Rows per task.
            generator: Random stream on the same device; the sampler's own when left out.

        Returns:
            A batch of ``[tasks, batch_size, ...]``. Every ring must hold a transition by then.
        """
        return self.gather(self.draw(batch_size, generator))

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """The random half of :meth:`sample`: numbers in [0, 1), ``[tasks, batch_size]``.

        Raises:
            RunFailed: If a task has no transition yet.
        """
        if not self._inserted.all():
            tasks = ", ".join(map(str, np.flatnonzero(self._inserted == 0)))
            raise RunFailed(f"there is nothing to learn from yet: no transition of task {tasks}")
        # In double precision, as a float has too few values to tell many millions of rows apart.
        return torch.rand(
            self.num_tasks,
            batch_size,
            dtype=torch.float64,
            device=self._rows.device,
            generator=generator or self.generator,
        )

    def gather(self, uniform: Tensor) -> Batch:
        """The other half: the transitions that numbers of :meth:`draw` stand for."""
        # A float below one times a size can round up to the size itself.
        within = torch.minimum((uniform * self._sizes).floor(), self._sizes - 1)
        indices = within.long() + self._offsets
        rows = self._rows.index_select(0, indices.flatten()).unflatten(0, indices.shape)
        observations, actions, rewards, next_observations, terminated = rows.split(
            self._widths, dim=-1
        )
        return Batch(
            observations, actions, rewards.squeeze(-1), next_observations, terminated.squeeze(-1)
        )


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _check_memory(needed: int, capacity: int, device: torch.device) -> None:
    available = free_memory(device)
    if needed > available:
        possible = capacity * available // needed
        raise UserError(
            f"the replay buffer needs {needed / 1e9:.1f} GB on {device}, {available / 1e9:.1f} GB "
            f"are free: set --replay-capacity below {possible}"
        )


class Staging:
    """Packs arrays into one buffer and sends that.

    A copy to a GPU takes ten microseconds, however small. On CUDA the buffer is pinned, so that the
    host need not wait for the copy. On the CPU the buffer is where the arrays arrive, and there is
    no second copy.

    Args:
        device: Where the arrays are wanted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host = self._there = torch.empty(0, dtype=torch.uint8)
        self._sent = torch.cuda.Event() if device.type == "cuda" else None
        self._layouts: dict[tuple[Any, ...], _Layout] = {}

    def send(self, *arrays: npt.NDArray[Any]) -> list[Tensor]:
        """Sends arrays of any shapes and types; what arrives is valid until the next call."""
        if self._sent is not None:
            self._sent.synchronize()  # the last copy may still be reading the buffer
        kinds = tuple((array.dtype, array.shape) for array in arrays)
        layout = self._layouts.get(kinds) or self._lay_out(kinds, arrays)
        for place, array in zip(layout.places, arrays, strict=True):
            place[...] = array
        if self._there is not self._host:
            end = layout.num_bytes
            self._there[:end].copy_(self._host[:end], non_blocking=True)
        if self._sent is not None:
            self._sent.record()
        return layout.arrived

    def _lay_out(self, kinds: tuple[Any, ...], arrays: Sequence[npt.NDArray[Any]]) -> _Layout:
        """Where arrays of some types and shapes go, which is the same the next time."""
        ends = list(accumulate(_padded(array.nbytes) for array in arrays))
        self._reserve(ends[-1])
        begins = [0, *ends[:-1]]
        like = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        self._layouts[kinds] = _Layout(
            [_part(self._host, *each).numpy() for each in zip(begins, like, strict=True)],
            [_part(self._there, *each) for each in zip(begins, like, strict=True)],
            ends[-1],
        )
        return self._layouts[kinds]

    def _reserve(self, num_bytes: int) -> None:
        if num_bytes <= len(self._host):
            return
        self._layouts = {}
        pinned = self._device.type == "cuda"
        self._host = self._there = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pinned)
        if self._device.type != "cpu":
            self._there = torch.empty_like(self._host, device=self._device)


class _Layout(NamedTuple):
    """Where arrays of some types and shapes go."""

    places: list[npt.NDArray[Any]]
    """Where they are packed."""
    arrived: list[Tensor]
    """Where they arrive."""
    num_bytes: int
    """How much of the buffer they take."""


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def _part(buffer: Tensor, begin: int, like: Tensor) -> Tensor:
    """The part of a buffer that holds numbers of the type and shape of a tensor."""
    return buffer[begin : begin + like.nbytes].view(like.dtype).view(like.shape)
