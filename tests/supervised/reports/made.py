"""Folders of made-up supervised runs: settings, protocol and evaluations, without training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mtrl_ntk.experiment.config import save
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.run_info import write_run_info
from mtrl_ntk.supervised.config import SUPERVISED, SupervisedConfig
from mtrl_ntk.supervised.datasets.registry import DATASETS
from mtrl_ntk.supervised.scores import Counters, Scores, log_kind
from mtrl_ntk.supervised.training.run import SupervisedRun

EPOCHS, BATCHES = 3, 5
LEVELS: Mapping[str, Mapping[str, float]] = {
    "left": {"loss": 1.0, "accuracy": 80.0},
    "right": {"loss": 1.2, "accuracy": 70.0},
    "sum": {"loss": 0.5, "mae": 2.0},
    "reconstruction": {"loss": 0.1, "rmse": 0.25},
}
"""What single-task runs reach."""


def made_config(**settings: object) -> SupervisedConfig:
    return SUPERVISED.from_dict({"epochs": EPOCHS, **settings})


def write_run(
    path: Path, config: SupervisedConfig, factor: float = 1.0, epochs: int = EPOCHS
) -> Path:
    """A run whose every number is that of single-task runs times a factor, with some noise."""
    path.mkdir(parents=True)
    save(config, path / "config.yaml")
    run = SupervisedRun(config, quiet=True)
    write_run_info(path, run.protocol, (), run.more_info)
    names, noise = config.task_names, np.random.default_rng(config.seed)
    with RunLogger(path, names, kind=log_kind(names)) as logger:
        for epoch in range(1, epochs + 1):
            counters = Counters(epoch * BATCHES, epoch, epoch * BATCHES * 32, 2.0 * epoch)
            inside = {
                f"{quantity}/network/{task}": (1 + place) * epoch * config.seed
                for quantity in ("weights", "ntk")
                for place, task in enumerate(names)
            }
            logger.log_training(counters, {**inside, "charts/updates_per_second": 10.0})
            late = 1 + (EPOCHS - epoch) / 10
            values = {
                task: {
                    name: level * factor * late * (1 + 0.01 * noise.standard_normal())
                    for name, level in LEVELS[task].items()
                }
                for task in names
            }
            logger.log_evaluation(counters, Scores(values))
    return path


def write_all(folder: Path, factors: Mapping[str, float], seeds: tuple[int, ...] = (1, 2)) -> Path:
    """Runs of several methods, whose numbers are factors of single-task runs'; and these."""
    for seed in seeds:
        for method, factor in factors.items():
            config = made_config(method=method, seed=seed)
            write_run(folder / f"{method}-seed{seed}", config, factor)
        for task in DATASETS["digits"].task_names:
            alone = made_config(method="equal", tasks=task, seed=seed)
            write_run(folder / f"{task}-seed{seed}", alone)
    return folder
