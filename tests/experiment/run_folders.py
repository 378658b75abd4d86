"""Folders of made-up runs: their settings, protocol and evaluations, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mtrl_ntk.experiment.agents import Trained
from mtrl_ntk.experiment.config import RunConfig, from_dict, read, save
from mtrl_ntk.experiment.evaluation.episodes import Episodes, protocol
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.evaluation.plan import make_plan
from mtrl_ntk.experiment.evaluation.results import RESULT_JSON, save_results
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.logs.run_info import write_run_info
from mtrl_ntk.experiment.types import Counters, EvaluationResult

TASKS = ("reach-v3", "drawer-close-v3", "window-open-v3")
TOTAL = 1000


_DEFAULTS: Mapping[str, object] = {
    "tasks": list(TASKS),
    "total_steps": TOTAL,
    "warmstart_steps": 100,
    "evaluate_every": 250,
}


def make_config(**settings: object) -> RunConfig:
    """Settings of a short run."""
    return from_dict({**_DEFAULTS, **settings})


def write_run_folder(
    path: Path, config: RunConfig, success: Mapping[int, Sequence[float] | npt.NDArray[np.float64]]
) -> Path:
    """A run with those success rates, by vector steps and in the order of its tasks."""
    tasks = config.env.tasks
    path.mkdir(parents=True)
    save(config, path / "config.yaml")
    write_run_info(path, protocol(config.env, config.evaluation), config.env.task_suite.versioned)
    with RunLogger(path, tasks) as logger:
        for step in (200, 400, 600):
            # Twenty vector steps a second.
            counters = _counters(config, step)
            logger.log_training(counters, _logged(config, step))
        for step, rates in success.items():
            values = np.asarray(rates, dtype=np.float64)
            result = EvaluationResult(tasks, values, 100 * values, episodes=50)
            logger.log_evaluation(_counters(config, step), result)
    return path


def write_unseen(
    run: Path,
    rates: Sequence[float],
    name: str = "20260101-120000",
    **asked: Any,  # noqa: ANN401 - fields of many types
) -> Path:
    """An evaluation of the end of such a run, as ``evaluate_mt10`` leaves it; returns its file."""
    config = read(run / "config.yaml")
    tasks, steps = config.env.task_names, config.loop.total_steps
    plan = make_plan(EvaluationOptions(run=run, **asked), config, tasks)
    counters = {"counters": {"vector_steps": steps}}
    suite, agent = config.env.task_suite, cast(Any, None)
    trained = Trained(run / "checkpoint" / "step", config, tasks, agent, counters, suite, {})
    successful = np.arange(plan.episodes) < np.round(plan.episodes * np.array(rates))[:, None]
    successes, lengths = successful.astype(np.float64), np.ones(successful.shape, np.int64)
    out = run / "evaluations" / name
    out.mkdir(parents=True)
    save_results(out, plan, trained, Episodes(successes, lengths.astype(np.float64), lengths))
    return out / RESULT_JSON


def _logged(config: RunConfig, step: int) -> dict[str, float]:
    """Losses of one, weights that grow from task to task and fall with time, and eigenvalues."""
    scalars = {"losses/critic/reach-v3": 1.0}
    for network in ("critic", "actor"):
        for place, task in enumerate(config.env.tasks, 1):
            weight = place * config.seed * 100 / step
            scalars |= {f"weights/{network}/{task}": weight, f"ntk/{network}/{task}": 1 / weight}
    return scalars


def _counters(config: RunConfig, step: int) -> Counters:
    envs = len(config.env.tasks) * config.env.envs_per_task
    return Counters(step, step * envs, max(step - 100, 0), seconds=step / 20)


def write_methods(
    folder: Path, levels: Mapping[str, float], seeds: Sequence[int] = (1, 2, 3)
) -> Path:
    """Runs of several methods, which end near a success rate; STL stands for single-task runs."""
    generator = np.random.default_rng(5)
    for name, level in levels.items():
        single = {"method": "equal", "network": "independent"}
        config = make_config(**(single if name == "STL" else {"method": name}))
        for seed in seeds:
            noise = generator.normal(0, 0.08, (4, len(TASKS)))
            rates = np.linspace(0.3, 1, 4)[:, None] * level + noise
            rates = np.clip(np.round(50 * rates) / 50, 0, 1)
            curve = dict(zip((250, 500, 750, TOTAL), rates, strict=True))
            write_run_folder(folder / f"{name}-seed{seed}", replace(config, seed=seed), curve)
    return folder
