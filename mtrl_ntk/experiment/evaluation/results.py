"""Files of an evaluation: its episodes, its success rates, and what the numbers mean."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

from mtrl_ntk.experiment.agents import Trained
from mtrl_ntk.experiment.evaluation.episodes import Episodes
from mtrl_ntk.experiment.evaluation.plan import Plan
from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.files.csv_files import Row, write_rows
from mtrl_ntk.experiment.logs.run_info import versions
from mtrl_ntk.experiment.types import MEAN_TASK

RESULT_JSON = "evaluation.json"
RESULT_CSV = "evaluation.csv"
EPISODES_CSV = "episodes.csv"


def save_results(out: Path, plan: Plan, trained: Trained, episodes: Episodes) -> None:
    """Writes what an evaluation has found, and what the numbers mean; the JSON file last.

    Args:
        out: Folder of the files.
        plan: What was evaluated.
        trained: The agent.
        episodes: What it did.
    """
    agent = {
        "method": trained.config.method,
        "training_seed": trained.config.seed,
        "vector_steps": trained.metadata["counters"]["vector_steps"],
    }
    tasks = _task_rows(plan, episodes)
    write_rows(out / EPISODES_CSV, _episode_rows(plan, episodes))
    write_rows(out / RESULT_CSV, [{**row, **agent, **plan.protocol} for row in tasks])
    content = {
        "mean_success_rate": tasks[-1]["success_rate"],
        "tasks": tasks[:-1],
        "protocol": plan.protocol,
        "agent": {
            **agent,
            "checkpoint": trained.origin,
            "tasks": trained.task_names,
            "counters": trained.metadata["counters"],
        },
        "versions": versions(plan.env.task_suite.versioned),
        "evaluated": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    atomic.write(out / RESULT_JSON, json.dumps(content, indent=2) + "\n")


def _task_rows(plan: Plan, episodes: Episodes) -> list[Row]:
    """A row for each task, and one for their mean."""
    rows: list[Row] = [
        {
            "task": task,
            "trained_as": trained_as,
            "success_rate": _known(successes.mean()),
            "mean_return": float(returns.mean()),
            "mean_length": float(lengths.mean()),
            "episodes": plan.episodes,
        }
        for task, trained_as, successes, returns, lengths in zip(
            plan.tasks,
            plan.trained_as,
            episodes.successes,
            episodes.returns,
            episodes.lengths,
            strict=True,
        )
    ]
    mean: Row = {
        "task": MEAN_TASK,
        "trained_as": MEAN_TASK,
        "success_rate": _known(episodes.successes.mean()),
        "mean_return": float(episodes.returns.mean()),
        "mean_length": float(episodes.lengths.mean()),
        "episodes": plan.episodes,
    }
    return [*rows, mean]


def _known(value: float, kind: type[float] = float) -> float | None:
    """A number, or nothing for NaN, for which neither CSV nor JSON has a word."""
    return None if math.isnan(value) else kind(value)


def _episode_rows(plan: Plan, episodes: Episodes) -> list[Row]:
    """A row for each episode of each task, counted from one in the order of the goals."""
    return [
        {
            "task": task,
            "episode": index + 1,
            "success": _known(episodes.successes[row, index], int),
            "return": float(episodes.returns[row, index]),
            "length": int(episodes.lengths[row, index]),
        }
        for row, task in enumerate(plan.tasks)
        for index in range(plan.episodes)
    ]
