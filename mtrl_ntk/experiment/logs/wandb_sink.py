"""What a run logs, to Weights & Biases as well; needs the extra ``wandb``.

The package is imported when a sink is made, so that other runs know nothing of it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.files.layout import WANDB_ID
from mtrl_ntk.experiment.logs.sink import LoggedRun, Sink
from mtrl_ntk.experiment.types import Counts


class WandbSink(Sink):
    """A run of Weights & Biases, which goes on with that of the same folder.

    WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY and so on say where it goes; ``wandb login`` who it is.

    Raises:
        UserError: If the package is missing, or does not know where to log.
    """

    def __init__(self, run: LoggedRun) -> None:
        try:
            import wandb
        except ModuleNotFoundError:
            raise UserError("--wandb needs the package wandb: pip install wandb") from None
        self._image = wandb.Image
        known_id, folder = _id_of(run.run_dir), run.run_dir.absolute()
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "mtrl_ntk"),
                dir=folder,
                id=known_id,
                name=folder.name,
                group=folder.parent.name,
                config=dict(run.settings),
                resume=None if os.environ.get("WANDB_MODE") == "offline" else "allow",
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise UserError(
                f"Weights & Biases: {error}; `wandb login`, or set WANDB_MODE=offline, or leave "
                "--wandb out"
            ) from None
        atomic.write(run.run_dir / WANDB_ID, known_id)
        # A run that goes on from a checkpoint repeats steps: wandb's own step may not.
        self._run.define_metric("*", step_metric=run.kind.step)

    def log_scalars(self, counters: Counts, scalars: Mapping[str, float]) -> None:
        """Logs scalars by tag."""
        known = {tag: value for tag, value in scalars.items() if not np.isnan(value)}
        self._run.log({**asdict(counters), **known})

    def log_images(self, counters: Counts, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Logs images by tag."""
        shown = {tag: self._image(image) for tag, image in images.items()}
        self._run.log({**asdict(counters), **shown})

    def close(self) -> None:
        """Waits until everything is there."""
        self._run.finish()


def _id_of(run_dir: Path) -> str:
    path = run_dir / WANDB_ID
    return path.read_text(encoding="utf-8").strip() if path.exists() else uuid.uuid4().hex[:12]


def make_wandb_sink(run: LoggedRun) -> WandbSink | None:
    """Makes the sink of a run that asks for one."""
    return WandbSink(run) if run.settings.get("wandb") else None
