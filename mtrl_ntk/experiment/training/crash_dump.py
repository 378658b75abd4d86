"""What led to the end of a run that had nothing more to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtrl_ntk.experiment.checkpoints.checkpoint import save_checkpoint
from mtrl_ntk.experiment.checkpoints.run_state import RunState
from mtrl_ntk.experiment.files.layout import DIAGNOSIS


def save_crash_dump(
    run_dir: Path, state: RunState[Any], batch: Mapping[str, Any], findings: Sequence[str]
) -> None:
    """Keeps a run in the form of a checkpoint, beside its checkpoints.

    ``load_checkpoint`` reads it: the network's tensors; in ``training`` the optimisers, the random
    streams and, as ``batch.*``, the batch of the next update; in ``metadata`` findings, counters
    and configuration.

    Args:
        run_dir: Folder of the run.
        state: The run.
        batch: What the next update would learn from.
        findings: What is wrong, in words.

    Raises:
        OSError: If it cannot be written.
    """
    snapshot = state.snapshot(state.capture() | {"batch": batch})
    metadata = {**snapshot.metadata, "findings": list(findings)}
    save_checkpoint(run_dir / DIAGNOSIS, snapshot.tensors, metadata, snapshot.training)
