"""A finished run on TensorBoard's page of hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.tensorboard import summary as summaries

from mtrl_ntk.experiment.config import CHANGEABLE
from mtrl_ntk.experiment.logs.events import EventFile
from mtrl_ntk.experiment.options.sections import LAST_EVALUATIONS


def final_metrics(success_rates: Sequence[float]) -> dict[str, float]:
    """The three numbers that are published as a run's success, which differ.

    Args:
        success_rates: Mean success rate of every evaluation, in their order; at least one.
    """
    return {
        "final/success_rate": success_rates[-1],
        f"final/mean_of_last_{LAST_EVALUATIONS}": float(np.mean(success_rates[-LAST_EVALUATIONS:])),
        "final/max_success_rate": max(success_rates),
    }


def add_hyper_parameters(
    events: EventFile, step: int, settings: Mapping[str, object], metrics: Mapping[str, float]
) -> None:
    """Adds a run's settings and metrics to its own events; it stays one run to TensorBoard.

    Args:
        events: Where to add them.
        step: Vector steps of the run.
        settings: All settings by name; those that decide nothing are left out.
        metrics: Scalars by tag.
    """
    known = {
        name: _plain(value)
        for name, value in settings.items()
        if name not in CHANGEABLE - {"total_steps"} and value is not None
    }
    for summary in summaries.hparams(known, dict(metrics)):
        events.add_summary(summary, step)
    events.add_scalars(step, metrics)


def _plain(value: Any) -> bool | float | str:  # noqa: ANN401 - as YAML has it
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, bool | int | float) else str(value)
