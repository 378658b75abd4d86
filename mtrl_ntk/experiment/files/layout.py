"""What lies in the folder of a run, by name, and whether a folder holds a run."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Set as AbstractSet
from pathlib import Path

from mtrl_ntk.errors import UserError

CHECKPOINT = "checkpoint"
"""Folder of the checkpoints, and of the replay that they share."""
CONFIG = "config.yaml"
"""All settings."""
RUN_INFO = "run.json"
"""How the run was made, and what its numbers mean."""
TRAINING_CSV = "training.csv"
"""Scalars over training."""
EVALUATION_CSV = "evaluation.csv"
"""Success rates and returns by task."""
EVENTS = "events.out.tfevents."
"""What the names of TensorBoard's files begin with."""
KERNELS = "kernels"
"""Folder of the diagnoses of kernels."""
VIDEOS = "videos"
"""Folder of the videos."""
PLOTS = "plots"
"""Folder of the pictures drawn from the CSV files."""
EVALUATIONS = "evaluations"
"""Folder of what evaluate_mt10 has found, one folder each."""
DIAGNOSIS = "diagnosis"
"""Folder of what led to the end of a run that was not finite any more."""
WANDB_ID = "wandb_id.txt"
"""Name of the run at Weights & Biases."""
LOCK = ".lock"
"""A file that is there, and locked, while a process trains."""

_WRITTEN_AT_START = (
    *(CONFIG, RUN_INFO, TRAINING_CSV, EVALUATION_CSV, f"{EVENTS}*"),
    *(WANDB_ID, "wandb"),
)
"""What is there before anything has come of a run."""
_RESULTS = (TRAINING_CSV, EVALUATION_CSV, CHECKPOINT, DIAGNOSIS, KERNELS, VIDEOS)
"""What training leaves; at first the files are empty, and the folders not there."""


def holds_run(folder: Path) -> bool:
    """Whether anything that came of training lies in a folder: a row, a checkpoint, a video."""
    return any(_has_content(folder / name) for name in _RESULTS)


def _has_content(path: Path) -> bool:
    try:
        return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
    except OSError:
        return False


def refuse_run(folder: Path) -> None:
    """Keeps a new run out of the folder of another.

    Raises:
        UserError: If the folder already holds a run.
    """
    if holds_run(folder):
        raise UserError(
            f"{folder} already holds a run; choose another folder, or add --resume to go on with it"
        )


@contextlib.contextmanager
def new_folder(path: Path, option: str) -> Iterator[Path]:
    """Makes a folder that no other process has: at a path, or with a number behind it if it exists.

    One that is empty at the end is removed again, with the empty folders that were made for it.

    Args:
        path: The folder.
        option: What chooses another one, for errors.

    Raises:
        UserError: If none can be made.
    """
    missing = [parent for parent in path.parents if not parent.exists()]
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    try:
        folder = next(each for each in itertools.chain([path], numbered) if _is_made(each))
    except OSError as error:
        reason = f"{error.strerror}; choose {option}"
        raise UserError(f"cannot make the folder {path}: {reason}") from error
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # something is in it
            for each in (folder, *missing):
                each.rmdir()


def _is_made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def written_at_start(folder: Path) -> set[Path]:
    """What lies in a folder of what the start of a run writes."""
    return {path for pattern in _WRITTEN_AT_START for path in folder.glob(pattern)}


def remove_failed_start(folder: Path, before: AbstractSet[Path]) -> None:
    """Removes what a start has written into a folder, if no run came of it.

    Args:
        folder: The folder, in which nobody else may start meanwhile.
        before: What had been :func:`written_at_start` before.
    """
    if holds_run(folder):
        return
    for path in written_at_start(folder) - before:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
