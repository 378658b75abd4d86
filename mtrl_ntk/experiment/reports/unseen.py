"""Success on goals that training never met, as ``evaluate_mt10`` has left it in a run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.evaluation.plan import make_plan
from mtrl_ntk.experiment.evaluation.results import RESULT_JSON
from mtrl_ntk.experiment.files.layout import EVALUATIONS
from mtrl_ntk.experiment.reports.statistics import Float64Array
from mtrl_ntk.rl.suites.registry import SUITES

_STATED = {"evaluation_goals", "goal_seed", "evaluation_episodes", "policy"}
_MOST_BYTES = 1_000_000
"""Far above any result."""


class Unseen(NamedTuple):
    """An evaluation on goals that training never met."""

    folder: Path
    """Where it lies."""
    success: Float64Array
    """Success rates, ``[tasks]``."""


def find_unseen(path: Path, config: RunConfig, end: int) -> Unseen | None:
    """The newest evaluation of a run's end that was made as is the default, if there is one.

    Others, of fewer episodes or of an earlier checkpoint, could not be compared between runs. What
    they would mean on tasks that are not imported is not known.

    Args:
        path: Folder of the run.
        config: Its settings.
        end: Vector steps at its end.
    """
    if config.env.suite not in SUITES:
        return None
    wanted = make_plan(EvaluationOptions(run=path), config, config.env.task_names).protocol
    for file in sorted(path.glob(f"{EVALUATIONS}/*/{RESULT_JSON}"), reverse=True):
        result = _read(file)
        if result is None or not _fits(result, wanted, end):
            continue
        if (success := _success(result, config)) is not None:
            return Unseen(file.parent, success)
    return None


def _read(file: Path) -> dict[str, Any] | None:
    try:
        with file.open("rb") as opened:
            result = json.loads(opened.read(_MOST_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) else None


def _fits(result: Mapping[str, Any], wanted: Mapping[str, object], end: int) -> bool:
    """Whether a result is of the run's end and under a protocol, as far as it states one."""
    protocol, agent = result.get("protocol"), result.get("agent")
    if not isinstance(protocol, dict) or not isinstance(agent, dict):
        return False
    if agent.get("vector_steps") != end or not protocol.keys() >= _STATED:
        return False
    # The environment's version is that of whoever evaluates, who may have updated since.
    stated = {key: value for key, value in protocol.items() if key != "environment"}
    return all(wanted.get(key) == value for key, value in stated.items())


def _success(result: Mapping[str, Any], config: RunConfig) -> Float64Array | None:
    try:
        rates = {row["task"]: float(row["success_rate"]) for row in result["tasks"]}
        success = np.array([rates[task] for task in config.env.task_names])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return success if ((success >= 0) & (success <= 1)).all() else None
