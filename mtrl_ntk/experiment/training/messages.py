"""What a run says of itself."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.training.saver import Saver

Say = Callable[[str], object]
"""Shows a line."""


def announce(say: Say, texts: Sequence[str], run_dir: Path, start: Start | None) -> None:
    """Says what is trained, and where."""
    first, *others = texts
    for text in (f"{first}; logs in {run_dir}", *others):
        say(text)
    if start and start.found is None:
        say("there is no checkpoint to go on from yet: starting afresh")


def announce_resumption(
    say: Say, step: int, folder: Path, changes: Sequence[str], remarks: Sequence[str]
) -> None:
    """Says what a run goes on from, and what differs from then."""
    say(f"going on after {step} steps from {folder}")
    if changes:
        say(f"changed: {'; '.join(changes)}")
    if remarks:
        say(f"from here on results may differ by rounding: {'; '.join(remarks)}")


def command_to_go_on(command: str, run_dir: Path, *more: str) -> str:
    """What goes on with a run that has stopped."""
    return shlex.join([command, "--run-dir", str(run_dir), "--resume", *more])


def what_is_unsaved(saver: Saver, logger: RunLogger) -> str | None:
    """What of a run is not on the disk, in words; None if all of it is."""
    if (reason := saver.failure) is not None:
        return f"which could not be saved: {reason}; {saver.newest}"
    if unwritten := logger.unwritten:
        names = ", ".join(path.name for path in unwritten)
        return f"of which {names} lack rows that could not be written"
    return None
