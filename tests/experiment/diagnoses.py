"""Diagnoses of made-up gradients, and runs that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mtrl_ntk.balancing import Jacobian
from mtrl_ntk.experiment.kernels.diagnosis import PARTS, Diagnosis, diagnose, save_diagnosis
from mtrl_ntk.experiment.types import Counters

MINIBATCHES = 3


def make_diagnosis(groups: Sequence[Sequence[str]], updates: int = 1) -> Diagnosis:
    """A diagnosis of tasks that agree within each group and are orthogonal across groups."""
    names = [name for group in groups for name in group]
    rows = 0.1 * torch.randn(len(names), MINIBATCHES, 40)
    for direction, group in enumerate(groups):
        for name in group:
            rows[names.index(name), :, direction] += 1
    counters = Counters(10 * updates, 100 * updates, updates, seconds=1.0)
    return diagnose(Jacobian(rows), names, counters)


def write_run(
    run_dir: Path, groups: Sequence[Sequence[str]], *, num_rows: int = 3, diagnosed: bool = True
) -> Path:
    """A run with a short ``training.csv`` and, if asked for, three diagnoses of each network."""
    run_dir.mkdir(parents=True)
    tasks = [name for group in groups for name in group]
    columns = [f"ntk/{part}/{task}" for part in PARTS for task in tasks]
    lines = [",".join(["env_steps", *columns])]
    lines += [
        ",".join([str(100 * row), *(str(1 + row + place) for place in range(len(columns)))])
        for row in range(num_rows)
    ]
    (run_dir / "training.csv").write_text("\n".join(lines) + "\n")
    for part in PARTS if diagnosed else ():
        for updates in (5, 10, 1000):
            save_diagnosis(run_dir, part, make_diagnosis(groups, updates))
    return run_dir
