"""What is not finite: kept out of the replay, counted, and made an end of if it stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PATIENCE = 3
"""Rows of the log in a row throughout which a task may be skipped."""

AnyFloats = NDArray[np.floating[Any]]


class Learnt(Protocol):
    """What learns, as far as it is watched."""

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors by name."""

    def optimizer_state(self) -> dict[str, Tensor]:
        """Those of its optimisers."""


class Health:
    """Watches a run for what is not finite. The device is waited for at rows and saves only.

    Args:
        task_names: The tasks.

    Attributes:
        task_names: The tasks.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        self.task_names = tuple(task_names)
        self._lost = np.zeros(len(task_names))
        self._skipped_rows: dict[str, list[int]] = {}

    def keepable(self, valid: NDArray[np.bool_], *parts: AnyFloats) -> NDArray[np.bool_]:
        """Which transitions can be learnt from; the others are counted.

        Args:
            valid: Those that the environments vouch for, ``[tasks, copies]``.
            parts: What transitions are made of, ``[tasks, copies, ...]``.
        """
        keep = valid.copy()
        for part in parts:
            keep &= np.isfinite(part).reshape(*valid.shape, -1).all(2)
        self._lost += (~keep).sum(1)
        return keep

    def take_lost(self) -> NDArray[np.float64]:
        """Transitions of each task that were not kept since the last call, ``[tasks]``."""
        lost, self._lost = self._lost, np.zeros_like(self._lost)
        return lost

    def take_row(self, means: Mapping[str, AnyFloats]) -> None:
        """Takes note of the metrics' means between two rows of the log."""
        for name in [name for name in means if name.startswith("skipped/")]:
            before = self._skipped_rows.get(name, [0] * len(self.task_names))
            share = means[name].tolist()
            self._skipped_rows[name] = [
                rows + 1 if skipped == 1 else 0 for rows, skipped in zip(before, share, strict=True)
            ]

    def findings(self, agent: Learnt) -> list[str]:
        """What makes further training pointless, in words; waits for the device."""
        return [
            f"{name.removeprefix('skipped/')} has skipped task {task} in every update of "
            f"{PATIENCE} rows of the log"
            for name, counts in self._skipped_rows.items()
            for task, rows in zip(self.task_names, counts, strict=True)
            if rows >= PATIENCE
        ] + [f"{name} is not finite" for name in self._broken_tensors(agent)]

    def _broken_tensors(self, agent: Learnt) -> list[str]:
        tensors: dict[str, Tensor] = {**agent.state_dict()}
        tensors |= {f"optimiser {name}": t for name, t in agent.optimizer_state().items()}
        # Together, as each would be waited for.
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
        broken = [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]
        return [f"{name}{self._tasks_of(tensors[name])}" for name in broken]

    def _tasks_of(self, tensor: Tensor) -> str:
        """The tasks of entries that are not finite, where entries are the tasks'."""
        if tensor.shape[:1] != (len(self.task_names),):
            return ""
        finite = tensor.isfinite().flatten(1).all(1) if tensor.ndim > 1 else tensor.isfinite()
        pairs = zip(self.task_names, finite.tolist(), strict=True)
        return f" ({', '.join(task for task, is_finite in pairs if not is_finite)})"

    def state(self) -> dict[str, Any]:
        """What was counted."""
        skipped_rows = {name: list(rows) for name, rows in self._skipped_rows.items()}
        return {"lost": self._lost.tolist(), "skipped_rows": skipped_rows}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state`; an empty one, of an older run, counts nothing."""
        self._lost = np.array(state.get("lost", self._lost), dtype=np.float64)
        rows = state.get("skipped_rows", {})
        self._skipped_rows = {name: list(counts) for name, counts in rows.items()}
