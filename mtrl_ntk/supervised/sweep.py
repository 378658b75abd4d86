"""What sweeps have to know of supervised runs."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.logs.progress import MISSING
from mtrl_ntk.experiment.sweeps.runs import Swept
from mtrl_ntk.supervised.command import load
from mtrl_ntk.supervised.config import SupervisedConfig
from mtrl_ntk.supervised.scores import LOSS, read_rows_of
from mtrl_ntk.supervised.training.dry_run import Costs, rehearse
from mtrl_ntk.supervised.training.run import SupervisedRun

TRAIN = (sys.executable, "-c", "from mtrl_ntk.cli import train_supervised; train_supervised()")
"""Starts train_supervised with the Python that runs the sweep, whatever is on the PATH."""


def mean_losses(folder: Path) -> dict[int, float]:
    """Mean loss over the tasks of each evaluation of a run, by epochs."""
    try:
        rows = read_rows_of(folder)
    except UserError:
        return {}  # as if it had none: --resume writes it anew
    losses: dict[int, list[float]] = {}
    for row in rows:
        losses.setdefault(int(float(row["epochs"])), []).append(float(row[LOSS] or "nan"))
    return {epoch: float(np.mean(of_epoch)) for epoch, of_epoch in losses.items()}


def _text(loss: float) -> str:
    return MISSING if math.isnan(loss) else f"{loss:.3f}"


def _costs(config: SupervisedConfig, epochs: int) -> Costs:
    run = SupervisedRun(config, quiet=True)
    return rehearse(run, epochs * run.make_clock().batches)


SUPERVISED_SWEPT = Swept(
    load,
    mean_losses,
    score="mean loss",
    text=_text,
    unit="epochs",
    column=1,
    standing=(),
    costs=_costs,
)
"""Runs of ``train_supervised``."""
