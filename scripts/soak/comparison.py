"""Which parts of what two runs leave are equal, to the last bit."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mtrl_ntk.experiment.checkpoints import segments
from mtrl_ntk.experiment.checkpoints.archive import Found, load_newest, replay_folder, segments_of
from mtrl_ntk.experiment.files.layout import CHECKPOINT, EVALUATION_CSV, TRAINING_CSV
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer


def equal_parts(run_dir: Path, other: Path) -> dict[str, bool]:
    """Compares two complete runs, but for what measures time and counts restarts."""
    own, others = (load_newest(path / CHECKPOINT, replay=True) for path in (run_dir, other))
    return {
        "weights": _equal(own.checkpoint.tensors, others.checkpoint.tensors),
        "optimisers, streams, environments": _equal(
            own.checkpoint.training, others.checkpoint.training
        ),
        "replay": torch.equal(replay_of(own)._rows, replay_of(others)._rows),
        **{
            name: _rows(run_dir / name) == _rows(other / name)
            for name in (EVALUATION_CSV, TRAINING_CSV)
        },
    }


def _equal(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return tensors.keys() == others.keys() and all(
        _bytes(tensor) == _bytes(others[name]) for name, tensor in tensors.items()
    )


def _bytes(tensor: Tensor) -> bytes:
    # Unlike numbers, bytes of NaN equal themselves.
    return tensor.contiguous().numpy().tobytes()


def replay_of(found: Found) -> MultiTaskReplayBuffer:
    """The replay of a checkpoint."""
    metadata = found.checkpoint.metadata
    replay = MultiTaskReplayBuffer(
        len(metadata["task_names"]),
        metadata["config"]["replay_capacity"],
        OBSERVATION_DIM,
        ACTION_DIM,
        device=torch.device("cpu"),
        generator=torch.Generator(),
    )
    segments.load(replay_folder(found.folder), segments_of(found.folder, metadata), replay)
    return replay


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: cell for name, cell in row.items() if not _is_left_out(name)}
            for row in csv.DictReader(file)
        ]


def _is_left_out(column: str) -> bool:
    return column == "seconds" or "per_second" in column or column.endswith("worker_restarts")
