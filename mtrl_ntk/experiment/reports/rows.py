"""The numbers of a report, row by row, for its CSV files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mtrl_ntk.experiment.files.csv_files import Row, write_rows
from mtrl_ntk.experiment.reports.contrasts import Contrast
from mtrl_ntk.experiment.reports.data import Method, Run
from mtrl_ntk.experiment.reports.statistics import Estimate, mean_and_error
from mtrl_ntk.experiment.reports.summary import Areas, Budget, Comparison, Summary, areas
from mtrl_ntk.experiment.reports.traces import TRACED, traced


def method_rows(summaries: Sequence[Summary], comparison: Comparison) -> Iterator[Row]:
    """Every number of each method."""
    for place, one in enumerate(summaries):
        row: Row = {"method": one.method.name, "runs": len(one.method.runs)}
        estimates = {
            "success": one.success,
            "unseen": one.unseen,
            "last": one.last,
            "mean_of_max": one.mean_of_max,
            "area_updates": one.area_updates,
            "area_seconds": one.area_seconds,
        }
        intervals = {"mean": one.mean, "iqm": one.iqm, "median": one.median, "gap": one.gap}
        intervals["unseen_iqm"] = one.unseen_iqm
        for name, (value, error) in estimates.items():
            row |= {name: value, f"{name}_error": error}
        for name, (value, low, high) in intervals.items():
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        row["max_of_mean"] = one.max_of_mean
        for threshold, steps in one.steps_to.items():
            row |= {f"steps_to_{threshold}": steps.steps, f"reached_{threshold}": steps.reached}
        row["delta_m_percent"] = comparison.changes[place] if comparison.changes else math.nan
        row["mean_rank"] = comparison.ranks[place] if comparison.ranks else math.nan
        row["updates_per_second"] = one.updates_per_second
        row["env_steps_per_second"] = one.env_steps_per_second
        yield row | {"hours": one.hours}


def run_rows(runs: Sequence[Run], methods: Sequence[Method], until: Budget) -> Iterator[Row]:
    """Every run, complete or not, with its last evaluation; areas are over the budget."""
    names = {run.path: method.name for method in methods for run in method.runs}
    for run in runs:
        curve = run.success.mean(1)
        area = areas(run, until) if run.is_complete else Areas(math.nan, math.nan)
        yield {
            "run": str(run.path),
            "method": names.get(run.path, run.config.method),
            "seed": run.config.seed,
            "complete": run.is_complete,
            "vector_steps": run.reached,
            "total_steps": run.config.loop.total_steps,
            "success": curve[-1] if len(curve) else math.nan,
            "maximum": curve.max() if len(curve) else math.nan,
            "unseen": math.nan if run.unseen is None else run.unseen.success.mean(),
            "area_updates": area.updates,
            "area_seconds": area.seconds,
            "budget_updates": until.updates,
            "budget_seconds": until.seconds,
            "updates_per_second": run.updates_per_second,
            "hours": run.seconds[-1] / 3600 if len(curve) else math.nan,
        }


def score_rows(methods: Sequence[Method]) -> Iterator[Row]:
    """The last success rate of each task of each complete run."""
    for method in methods:
        for run in method.runs:
            none = [math.nan] * len(run.tasks)
            unseen = none if run.unseen is None else run.unseen.success.tolist()
            for task, *rates in zip(run.tasks, run.success[-1].tolist(), unseen, strict=True):
                names: Row = {"method": method.name, "seed": run.config.seed, "task": task}
                yield names | dict(zip(("success_rate", "unseen"), rates, strict=True))


def task_rows(summaries: Sequence[Summary]) -> Iterator[Row]:
    """The last success rate of each method on each task."""
    for one in summaries:
        for task, (value, error) in one.by_task.items():
            row: Row = {"method": one.method.name, "task": task, "runs": len(one.method.runs)}
            interval = one.task_intervals[task]
            row |= {"success": value, "error": error, "low": interval.low, "high": interval.high}
            unseen = one.unseen_by_task.get(task, Estimate(math.nan, math.nan))
            yield row | {"unseen": unseen.value, "unseen_error": unseen.error}


def trace_rows(methods: Sequence[Method]) -> Iterator[Row]:
    """Task weights and kernel eigenvalues over training, thinned."""
    for quantity in TRACED:
        for name, parts in traced(methods, quantity).items():
            for part, tasks in parts.items():
                for task, trace in tasks.items():
                    names = {"quantity": quantity, "method": name, "network": part, "task": task}
                    for step, middle, low, high in zip(*map(np.ndarray.tolist, trace), strict=True):
                        values = {"env_steps": step, "mean": middle, "low": low, "high": high}
                        yield {**names, **values}


def curve_rows(methods: Sequence[Method]) -> Iterator[Row]:
    """The mean learning curve of each method."""
    for method in methods:
        steps, curves = method.curves
        error = curves.std(0, ddof=1) / math.sqrt(len(curves)) if len(curves) > 1 else None
        for place, step in enumerate(steps.tolist()):
            yield {
                "method": method.name,
                "env_steps": int(step),
                "success": curves[:, place].mean(),
                "error": math.nan if error is None else error[place],
            }


def task_curve_rows(methods: Sequence[Method]) -> Iterator[Row]:
    """The learning curve of each method on each task."""
    for method in methods:
        steps, curves = method.task_curves
        for place, task in enumerate(method.tasks):
            for step, rates in zip(steps.tolist(), curves[:, :, place].T, strict=True):
                value, error = mean_and_error(rates)
                names: Row = {"method": method.name, "task": task, "env_steps": int(step)}
                yield names | {"success": value, "error": error}


def improvement_rows(summaries: Sequence[Summary], comparison: Comparison) -> Iterator[Row]:
    """Every pair of methods."""
    for one, row in zip(summaries, comparison.improvement, strict=False):
        for other, (value, low, high) in zip(summaries, row, strict=True):
            if one is not other:
                names = {"method": one.method.name, "over": other.method.name}
                yield {**names, "probability": value, "low": low, "high": high}


def contrast_rows(contrasts: Sequence[Contrast]) -> Iterator[Row]:
    """Every method against every baseline, by each outcome."""
    for one in contrasts:
        difference, p, p_equivalence = one.paired
        yield {
            "method": one.method,
            "baseline": one.baseline,
            "outcome": one.outcome.name,
            "seeds": one.seeds,
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p": p,
            "p_holm": one.adjusted,
            "margin": one.margin,
            "p_equivalence": p_equivalence,
            "verdict": one.verdict,
        }


def run_curve_rows(methods: Sequence[Method]) -> Iterator[Row]:
    """The learning curve of each run on each task, a row for each evaluation."""
    tasks = dict.fromkeys(task for method in methods for task in method.tasks)
    for method in methods:
        for run in method.runs:
            for place, rates in enumerate(run.success.tolist()):
                yield {
                    "method": method.name,
                    "seed": run.config.seed,
                    "vector_steps": int(run.vector_steps[place]),
                    "env_steps": int(run.env_steps[place]),
                    "updates": int(run.updates[place]),
                    "seconds": run.seconds[place],
                    **dict.fromkeys(tasks, math.nan),
                    **dict(zip(run.tasks, rates, strict=True)),
                }


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows; a number that does not exist is an empty cell."""
    write_rows(path, [{name: _cell(value) for name, value in row.items()} for row in rows])


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.9g}" if math.isfinite(value) else ""
