"""What led to the end of a run that had nothing more to learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mtrl_ntk.experiment.checkpoints.checkpoint import save_checkpoint
from mtrl_ntk.experiment.checkpoints.run_state import RunState
from mtrl_ntk.experiment.files.layout import DIAGNOSIS


def save_crash_dump(
    run_dir: Path, state: RunState, batch_size: int, findings: Sequence[str]
) -> None:
    """Keeps a run in the form of a checkpoint, beside its checkpoints.

    ``load_checkpoint`` reads it: the agent's tensors; in ``training`` the optimisers, the random
    streams and, as ``batch.*``, the transitions that the next update would draw; in ``metadata``
    findings, counters and configuration.

    Args:
        run_dir: Folder of the run.
        state: The run.
        batch_size: Transitions per task of an update.
        findings: What is wrong, in words.

    Raises:
        OSError: If it cannot be written.
    """
    generator = torch.Generator(state.agent.device)
    generator.set_state(state.replay.generator.get_state())
    batch = state.replay.sample(batch_size, generator)
    snapshot = state.snapshot(state.capture() | {"batch": batch._asdict()})
    metadata = {**snapshot.metadata, "findings": list(findings)}
    save_checkpoint(run_dir / DIAGNOSIS, snapshot.tensors, metadata, snapshot.training)
