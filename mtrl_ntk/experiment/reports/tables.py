"""The tables of a report, as text for its pages."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from mtrl_ntk.experiment.reports.anchors import Anchors
from mtrl_ntk.experiment.reports.contrasts import Contrast
from mtrl_ntk.experiment.reports.data import (
    AnyMethod,
    AnyRun,
    Method,
    Run,
    differing_settings,
    measured,
    shortened,
)
from mtrl_ntk.experiment.reports.pages import Cell, Link, Table
from mtrl_ntk.experiment.reports.statistics import Estimate, Interval
from mtrl_ntk.experiment.reports.summary import THRESHOLDS, Budget, Comparison, Summary

MISSING = "–"


_AGGREGATES = ("success", "iqm", "median", "gap")
_HEADINGS = {
    "success": "success",
    "unseen": "on unseen goals",
    "iqm": "IQM",
    "median": "median",
    "gap": "optimality gap",
    "delta_m": "Δm %",
    "rank": "mean rank",
}


def columns(
    summaries: Sequence[Summary], comparison: Comparison, metrics: Sequence[str]
) -> list[str]:
    """The metrics that there are numbers for, success always among them."""
    known = {
        "success": True,
        "unseen": any(one.has_unseen for one in summaries),
        "delta_m": "delta_m" in metrics and bool(comparison.changes),
        "rank": "rank" in metrics and bool(comparison.ranks),
    }
    return [name for name in _HEADINGS if known.get(name, name in metrics)]


def aggregate_names(metrics: Sequence[str]) -> list[str]:
    """Those metrics that have an interval."""
    return [name for name in _AGGREGATES if name in metrics]


def success_table(
    summaries: Sequence[Summary], comparison: Comparison, metrics: Sequence[str]
) -> Table:
    """Mean and standard error as in Table 4 of the paper, aggregates, delta-m and mean rank."""
    names = columns(summaries, comparison, metrics)
    rows = [
        [
            one.method.name,
            str(len(one.method.runs)),
            *(_metric(name, one, comparison, place) for name in names),
        ]
        for place, one in enumerate(summaries)
    ]
    headings = _HEADINGS | {"success": _score([one.method for one in summaries])}
    return Table(["method", "runs", *(headings[name] for name in names)], rows)


def _score(methods: Sequence[Method]) -> str:
    """What the numbers of methods are called in a narrow column."""
    return measured(run for of in methods for run in of.runs).removesuffix(" rate")


def _metric(name: str, summary: Summary, comparison: Comparison, place: int) -> str:
    if name in ("success", "unseen"):
        return estimate(getattr(summary, name))
    if name == "delta_m":
        return number(comparison.changes[place], "+.1f")
    if name == "rank":
        return number(comparison.ranks[place])
    return interval(getattr(summary, name))


def paper_table(summaries: Sequence[Summary]) -> Table:
    """The table of the paper, mean and standard error, with those of unseen goals if known."""
    score = measured(run for one in summaries for run in one.method.runs).capitalize()
    headings = ["Method", f"{score} (mean ± stderr)"]
    rows = [[one.method.name, estimate(one.success), estimate(one.unseen)] for one in summaries]
    if any(one.has_unseen for one in summaries):
        return Table([*headings, "Unseen goals (mean ± stderr)"], rows)
    return Table(headings, [row[:2] for row in rows])


def unseen_table(summaries: Sequence[Summary]) -> Table:
    """Success on the goals of training beside that on goals that it never met."""
    columns = ["method", "training goals", "unseen goals", "difference", "IQM on unseen goals"]
    rows = [
        [
            one.method.name,
            estimate(one.success),
            estimate(one.unseen),
            number(round(one.unseen.value - one.success.value, 2) + 0.0, "+.2f"),  # no minus zero
            interval(one.unseen_iqm),
        ]
        for one in summaries
    ]
    return Table(columns, rows)


def anchors_table(anchors: Anchors, summaries: Sequence[Summary]) -> Table:
    """Published numbers, and what the same methods reached here under another protocol."""
    rows = []
    for row in anchors.rows:
        same = [one for one in summaries if row.is_of(one.method)]
        here = "; ".join(f"{one.method.name}: {estimate(one.success)}" for one in same)
        published = Estimate(row.value, math.nan if row.error is None else row.error)
        rows.append([row.name, estimate(published), here or MISSING])
    return Table(["published method", anchors.title, "these runs, other protocol"], rows)


def protocols_table(anchors: Anchors, runs: Sequence[Run]) -> Table:
    """The protocol of published numbers beside that of the runs."""
    ours = _values([run.protocol for run in runs])
    stated = {key: str(value) for key, value in anchors.protocol.items()}
    rows = [[key, stated.get(key, "not stated"), ours.get(key, MISSING)] for key in ours]
    return Table(["protocol", anchors.title, "these runs"], rows, is_numeric=False)


def selection_table(summaries: Sequence[Summary], last: int) -> Table:
    """What the same runs give by the rules that published numbers mix."""
    columns = ["method", "final", f"mean of last {last}", "max of mean curve", "mean of run maxima"]
    rows = [
        [
            one.method.name,
            estimate(one.success),
            estimate(one.last),
            number(one.max_of_mean),
            estimate(one.mean_of_max),
        ]
        for one in summaries
    ]
    return Table(columns, rows)


def speed_table(summaries: Sequence[Summary], until: Budget) -> Table:
    """Areas under the learning curve, and steps to success rates."""
    columns = [
        "method",
        f"area over {until.updates:,.0f} updates",
        f"area over {until.seconds:,.0f} s",
        *(f"steps to {rate}" for rate in THRESHOLDS),
    ]
    rows = []
    for one in summaries:
        cells = [_steps(one, threshold) for threshold in THRESHOLDS]
        areas = estimate(one.area_updates), estimate(one.area_seconds)
        rows.append([one.method.name, *areas, *cells])
    return Table(columns, rows)


def improvement_table(summaries: Sequence[Summary], comparison: Comparison) -> Table:
    """Probability that the method of a row beats that of a column."""
    names = [one.method.name for one in summaries]
    rows = [
        [name, *map(interval, row)] for name, row in zip(names, comparison.improvement, strict=True)
    ]
    return Table(["method", *(f"over {name}" for name in names)], rows)


def contrasts_table(contrasts: Sequence[Contrast], baseline: str) -> Table:
    """How methods differ from a baseline, by each outcome."""
    columns = ["by", "method", "seeds", "difference", "p", "verdict"]
    rows = [
        [
            one.outcome.title,
            one.method,
            str(one.seeds),
            interval(one.paired.difference, f"+.{one.outcome.decimals}f"),
            number(one.adjusted, ".2g"),
            one.verdict,
        ]
        for one in contrasts
        if one.baseline == baseline
    ]
    return Table(columns, rows)


def task_table(rates: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Success rates by task, given by method."""
    tasks = list(dict.fromkeys(task for of_method in rates.values() for task in of_method))
    rows = [
        [task, *(estimate(of[task]) if task in of else MISSING for of in rates.values())]
        for task in tasks
    ]
    return Table(["task", *rates], rows)


def settings_table(methods: Sequence[AnyMethod]) -> Table:
    """The settings in which methods differ."""
    rows = [
        [name, *(MISSING if value is None else shortened(str(value)) for value in values)]
        for name, values in differing_settings(methods).items()
    ]
    return Table(["setting", *(method.name for method in methods)], rows, is_numeric=False)


def runs_table(methods: Sequence[Method], folder: Path) -> Table:
    """Every run that counts, with what lies in its folder.

    Args:
        methods: The methods.
        folder: Where the table will be; links begin there.
    """
    rows: list[list[Cell]] = [
        [
            (Link(run.path.name, link_to(run.path, folder)),),
            method.name,
            str(run.config.seed),
            number(run.success[-1].mean()),
            MISSING if run.unseen is None else number(run.unseen.success.mean()),
            tuple(Link(name, link_to(path, folder)) for name, path in run.files.items()),
        ]
        for method in methods
        for run in method.runs
    ]
    columns = ["run", "method", "seed", _score(methods), "on unseen goals", "files"]
    return Table(columns, rows, is_numeric=False)


def link_to(path: Path, folder: Path) -> str:
    """The address of a file or folder, as seen from a folder."""
    try:
        return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())
    except ValueError:  # another drive
        return path.resolve().as_uri()


def cost_table(summaries: Sequence[Summary]) -> Table:
    """Speed and duration."""
    columns = ["method", "updates / s", "environment steps / s", "hours per run"]
    rows = [
        [
            one.method.name,
            number(one.updates_per_second, ",.1f"),
            number(one.env_steps_per_second, ",.0f"),
            number(one.hours),
        ]
        for one in summaries
    ]
    return Table(columns, rows)


def protocol_table(runs: Sequence[AnyRun]) -> Table:
    """What the numbers mean, with all that occurs where runs differ, and what made them."""
    rows = list(map(list, _values([{**run.protocol, **run.versions} for run in runs]).items()))
    return Table(["of", "value"], rows, is_numeric=False)


def _values(facts: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """All values that occur, by key."""
    values: dict[str, dict[str, None]] = {}
    for of_run in facts:
        for key, value in of_run.items():
            values.setdefault(key, {})[str(value)] = None
    return {key: " / ".join(known) for key, known in values.items()}


def incomplete_table(runs: Sequence[Run]) -> Table:
    """Runs that are in no number, and how far they came."""
    rows = [
        [
            str(run.path),
            f"{run.reached:,} of {run.config.loop.total_steps:,}",
            number(run.success[-1].mean()) if len(run.success) else MISSING,
        ]
        for run in runs
    ]
    score = f"{measured(runs).removesuffix(' rate')} there"
    return Table(["run", "vector steps evaluated", score], rows)


def number(value: float, form: str = ".2f") -> str:
    """A number for people, or a dash for none."""
    return f"{value:{form}}" if math.isfinite(value) else MISSING


def estimate(of: Estimate) -> str:
    """A number and, if it is known, its standard error."""
    return number(of.value) + ("" if math.isnan(of.error) else f" ± {of.error:.2f}")


def interval(of: Interval, form: str = ".2f") -> str:
    """A number and, if they are known, the ends of its interval."""
    value, low, high = (number(value, form) for value in of)
    return value if math.isnan(of.low) else f"{value} [{low}, {high}]"


def _steps(summary: Summary, threshold: float) -> str:
    steps, reached = summary.steps_to[threshold].steps, summary.steps_to[threshold].reached
    text = f"{steps:,.0f}" if math.isfinite(steps) else MISSING
    return f"{text} ({reached}/{len(summary.method.runs)})"
