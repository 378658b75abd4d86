"""Whether the disk has room for what a run will write."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.files.layout import CHECKPOINT
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC

_ROW_BYTES_PER_TASK = 2_000
"""Of a row of training.csv and its TensorBoard events, which name every number."""
MANIFEST_BYTES = 200_000
"""Of a checkpoint besides its large tensors: manifest, statistics, environments."""
_REST_BYTES = 10_000_000
"""Settings, plots and what else is small."""


class DiskNeed(NamedTuple):
    """Bytes that a run writes."""

    replay: int
    """Transitions that the replay holds at the end, if there is one."""
    checkpoint: int
    """A checkpoint without its transitions."""
    checkpoints: int
    """Checkpoints at a time: those kept, and the one in progress."""
    logs: int
    """CSV files, TensorBoard events and the rest."""

    @property
    def least(self) -> int:
        """Without it no checkpoint of the end can be saved beside the one before."""
        return self.replay + 2 * self.checkpoint

    @property
    def most(self) -> int:
        """With it nothing has to be left out."""
        return self.replay + self.checkpoints * self.checkpoint + self.logs


def disk_need(config: RunConfig, agent: MultiTaskSAC, replay: MultiTaskReplayBuffer) -> DiskNeed:
    """Estimates what a run will write, without videos and diagnoses of kernels."""
    loop = config.loop
    transitions = min(loop.total_steps * config.env.envs_per_task, loop.replay_capacity)
    parameters = sum(tensor.nbytes for tensor in agent.state_dict().values())
    rows = loop.total_steps // loop.log_every + loop.total_steps // config.evaluation.evaluate_every
    return DiskNeed(
        replay=4 * replay.row_width * replay.num_tasks * transitions,
        # Adam's two moments are at most as large as the parameters and their targets.
        checkpoint=2 * parameters + MANIFEST_BYTES,
        checkpoints=loop.keep_checkpoints + 2,
        logs=log_bytes(rows, replay.num_tasks),
    )


def log_bytes(rows: int, num_tasks: int) -> int:
    """Estimates what a run's logs, plots and settings take, with so many rows."""
    return rows * num_tasks * _ROW_BYTES_PER_TASK + _REST_BYTES


def check_space(need: DiskNeed, run_dir: Path) -> None:
    """Refuses a run that the disk cannot hold, and warns of one that it may not hold.

    What the folder already has of checkpoints counts as room: a resumed run replaces it.

    Raises:
        UserError: If not even one checkpoint of the end can be saved.
    """
    free = free_space(run_dir) + _size(run_dir / CHECKPOINT)
    if need.least > free:
        replay = f" with its replay of {size_text(need.replay)}" if need.replay else ""
        raise UserError(
            f"the run needs {size_text(need.least)} on the disk of {run_dir} for a checkpoint"
            f"{replay}, {size_text(free)} are free: make room, or choose --run-dir on another disk"
            f"{', or lower --replay-capacity' * (need.replay > 0)}"
        )
    if need.most > free:
        warnings.warn(
            f"the run may fill the disk of {run_dir}: it needs about {size_text(need.most)}, "
            f"{size_text(free)} are free; --keep-checkpoints 1 needs less",
            stacklevel=2,
        )


def free_space(run_dir: Path) -> int:
    """Free bytes on the disk of a folder, which need not be there yet."""
    folder = run_dir.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_text(num_bytes: int) -> str:
    """A number of bytes for people: ``1.2 MB`` or ``3.45 GB``."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
