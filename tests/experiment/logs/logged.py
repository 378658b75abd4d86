"""What tests log, and how they read it back."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.types import Counters, EvaluationResult

TASKS = ("reach-v3", "push-v3")
RESULT = EvaluationResult(TASKS, np.array([0.5, 1.0]), np.array([100.0, 301.0]), episodes=50)


def counters(step: int) -> Counters:
    return Counters(vector_steps=step, env_steps=10 * step, updates=step // 2, seconds=step / 7)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_events(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return events


def log_until(logger: RunLogger, steps: range) -> None:
    for step in steps:
        logger.log_training(counters(step), {"a": float(step), "b": float("nan")})
        if step % 2 == 0:
            logger.log_evaluation(counters(step), RESULT)
