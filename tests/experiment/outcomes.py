"""Everything that a run leaves behind, to be compared with what another one does."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
    EventFileLoader,
)

from mtrl_ntk.experiment.checkpoints.archive import load_newest
from scripts.soak.comparison import replay_of

_WALL_CLOCK = {"seconds", "rates", "warmed_up"}
_OF_THIS_PROCESS = {"log", "made_with", "replay"}


def outcome(run_dir: Path) -> dict[str, Any]:
    """All that does not depend on the clock, in what compares by ``==``."""
    found = load_newest(run_dir / "checkpoint", replay=True)
    checkpoint = found.checkpoint
    tensors = {**checkpoint.tensors, **checkpoint.training}
    if "replay" in checkpoint.metadata:
        tensors["replay"] = replay_of(found)._rows
    return {
        **{f"tensor {name}": raw(tensor) for name, tensor in tensors.items()},
        **{f"metadata {key}": value for key, value in timeless(checkpoint.metadata).items()},
        "training.csv": rows(run_dir / "training.csv"),
        "evaluation.csv": rows(run_dir / "evaluation.csv"),
        "events": events(run_dir),
    }


def assert_same(run_dir: Path, other: Path) -> None:
    """Says which parts of two runs differ."""
    own, others = outcome(run_dir), outcome(other)
    assert own.keys() == others.keys()
    differing = {name: (own[name], others[name]) for name in own if own[name] != others[name]}
    assert not differing


def raw(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes: NaN equals itself, and zero is not minus zero."""
    return str(tensor.dtype), tuple(tensor.shape), tensor.contiguous().numpy().tobytes()


def timeless(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """JSON without what depends on the clock or on the process."""
    if isinstance(value, Mapping):
        left_out = _WALL_CLOCK | _OF_THIS_PROCESS
        return {key: timeless(part) for key, part in value.items() if key not in left_out}
    return value


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file without what measures time."""
    with path.open(newline="") as file:
        return [
            {name: cell for name, cell in row.items() if not is_measured_time(name)}
            for row in csv.DictReader(file)
        ]


def is_measured_time(name: str) -> bool:
    """Whether a column or a tag measures time."""
    return name == "seconds" or "per_second" in name


def events(run_dir: Path) -> list[tuple[int, str, object]]:
    """Step, tag and value of all that is on the disk, whether TensorBoard would show it or not."""
    found: list[tuple[int, str, object]] = []
    for path in sorted(run_dir.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                content = b"" if is_measured_time(value.tag.split("/")[-1]) else value.tensor
                found.append((event.step, value.tag, str(content)))
    return found
