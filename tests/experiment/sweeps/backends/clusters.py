"""A sweep on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mtrl_ntk.experiment.sweeps.options import Resources, Sweep, SweepOptions
from tests.experiment.sweeps.made_sweeps import SETTINGS

Cluster = Literal["ray", "slurm"]
AGAIN = "sweep_mt10 --again"
PATIENCE_S = 300.0
RESOURCES = Resources(cpus=1, gpus=0, mem=0.0, minutes=60, partition=None)


def sweep_on(backend: Cluster, out: Path) -> Sweep:
    options = SweepOptions(
        methods=("equal", "ntkmtl"), seeds=("1-2",), out=out, backend=backend, cpus=1
    )
    return Sweep(options, SETTINGS)


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)
