"""What a run says of itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtrl_ntk.experiment.checkpoints.resume import Start

if TYPE_CHECKING:
    from mtrl_ntk.experiment.training.loop import Run


def announce(run: Run, start: Start | None) -> None:
    """Says what is trained, and where."""
    run.progress.message(
        f"{run.config.method} on {run.envs.num_tasks} tasks, seed {run.config.seed}, on "
        f"{run.agent.device.type}; replay of {run.loop.replay_capacity} transitions per task in "
        f"{run.replay.nbytes / 1e6:.0f} MB; logs in {run.logger.run_dir}"
    )
    if start and start.found is None:
        run.progress.message("there is no checkpoint to go on from yet: starting afresh")


def announce_resumption(run: Run, start: Start, folder: Path, remarks: Sequence[str]) -> None:
    """Says what a run goes on from, and what differs from then."""
    run.progress.message(f"going on after {run.step} steps from {folder}")
    if start.changes:
        run.progress.message(f"changed: {'; '.join(start.changes)}")
    if remarks:
        run.progress.message(
            f"from here on results may differ in the last bits: {'; '.join(remarks)}"
        )


def command_to_go_on(run: Run) -> str:
    """What goes on with a run that has stopped."""
    return f"train_mt10 --run-dir {shlex.quote(str(run.logger.run_dir))} --resume"


def what_is_unsaved(run: Run) -> str | None:
    """What of a run is not on the disk, in words; None if all of it is."""
    if (reason := run.saver.failure) is not None:
        return f"which could not be saved: {reason}; {run.saver.newest}"
    if unwritten := run.logger.unwritten:
        names = ", ".join(path.name for path in unwritten)
        return f"of which {names} lack rows that could not be written"
    return None
