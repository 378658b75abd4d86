"""What a run logs, to Weights & Biases as well; needs the extra ``wandb``.

The package is imported when a mirror is made, so that other runs know nothing of it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import RunConfig, to_dict
from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.files.layout import WANDB_ID, refuse_run
from mtrl_ntk.experiment.types import LogPosition

STEP = "vector_steps"
"""The step axis of all charts."""


class WandbMirror:
    """A run of Weights & Biases, which goes on with that of the same folder.

    WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY and so on say where it goes; ``wandb login`` who it is.

    Args:
        run_dir: Folder of the run.
        settings: All settings of the run by name.

    Raises:
        UserError: If the package is missing, or does not know where to log.
    """

    def __init__(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ModuleNotFoundError:
            raise UserError("--wandb needs the package wandb: pip install wandb") from None
        self._image = wandb.Image
        known_id, folder = _id_of(run_dir), run_dir.absolute()
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "mtrl_ntk"),
                dir=folder,
                id=known_id,
                name=folder.name,
                group=folder.parent.name,
                config=dict(settings),
                resume=None if os.environ.get("WANDB_MODE") == "offline" else "allow",
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise UserError(
                f"Weights & Biases: {error}; `wandb login`, or set WANDB_MODE=offline, or leave "
                "--wandb out"
            ) from None
        atomic.write(run_dir / WANDB_ID, known_id)
        # A run that goes on from a checkpoint repeats steps: wandb's own step may not.
        self._run.define_metric("*", step_metric=STEP)

    def log(self, counters: Mapping[str, float], scalars: Mapping[str, float]) -> None:
        """Logs scalars by tag; NaN stands for none."""
        known = {tag: value for tag, value in scalars.items() if not np.isnan(value)}
        self._run.log({**counters, **known})

    def log_images(
        self, counters: Mapping[str, float], images: Mapping[str, npt.NDArray[np.uint8]]
    ) -> None:
        """Logs images ``[height, width, 3]`` by tag."""
        self._run.log({**counters, **{tag: self._image(image) for tag, image in images.items()}})

    def close(self) -> None:
        """Waits until everything is there."""
        self._run.finish()


def _id_of(run_dir: Path) -> str:
    path = run_dir / WANDB_ID
    return path.read_text(encoding="utf-8").strip() if path.exists() else uuid.uuid4().hex[:12]


def make_mirror(
    config: RunConfig, run_dir: Path, position: LogPosition | None
) -> WandbMirror | None:
    """Makes the mirror that a run asks for, if it asks for one.

    Args:
        config: The run's configuration.
        run_dir: Folder of the run.
        position: Where the logs that are there are continued; left out, there may be none.

    Raises:
        UserError: If there is no Weights & Biases, or the folder already holds the logs of a run.
    """
    if not config.wandb:
        return None
    if position is None:
        refuse_run(run_dir)

    run_dir.mkdir(parents=True, exist_ok=True)
    return WandbMirror(run_dir, to_dict(config))
