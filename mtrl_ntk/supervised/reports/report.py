"""report_mt10 on supervised runs: their numbers, pages, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.csv_files import Row
from mtrl_ntk.experiment.files.layout import CONFIG
from mtrl_ntk.experiment.logs.progress import standard_output
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.options.yaml_files import read_values
from mtrl_ntk.experiment.reports.contrasts import Contrast, contrasts
from mtrl_ntk.experiment.reports.data import (
    base_name,
    differences,
    find_runs,
    repeated_seeds,
)
from mtrl_ntk.experiment.reports.findings import objections, remarks_on
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.pages import (
    Cell,
    Document,
    Link,
    Picture,
    Section,
    Table,
    to_latex,
)
from mtrl_ntk.experiment.reports.report import DEFAULT_FOLDER, show_report, write_report
from mtrl_ntk.experiment.reports.rows import contrast_rows
from mtrl_ntk.experiment.reports.sections import contrast_sections
from mtrl_ntk.experiment.reports.statistics import Bootstrap
from mtrl_ntk.experiment.reports.styles import method_styles
from mtrl_ntk.experiment.reports.tables import link_to, number, protocol_table, settings_table
from mtrl_ntk.experiment.reports.traces import Trace, traced, traces_figure
from mtrl_ntk.supervised.reports.data import (
    Measure,
    SupervisedMethod,
    SupervisedRecord,
    group,
    measures_of,
    read_run,
)
from mtrl_ntk.supervised.reports.figures import MOST_PANELS, losses_figure, measures_figure
from mtrl_ntk.supervised.reports.numbers import Summary, numbers, outcomes, summarize
from mtrl_ntk.supervised.scores import PART, TRUNK
from mtrl_ntk.supervised.training.plots import UPDATES

MOST_COLUMNS = 12
"""Measures that a table has a column for; more are rows."""
_TRACED = {
    "weights": ("weights", PART, "Task weights"),
    "ntk": ("ntk", PART, "Largest eigenvalues of the methods' own kernels"),
    "ntk_trunk": ("ntk", TRUNK, "Largest NTK eigenvalues in the trunk"),
}
_OF_BOTH = frozenset(
    {"out", "title", "methods", "against", "margin", "resample", "resamples", "force"}
)


def are_supervised(folders: Sequence[Path]) -> bool:
    """Whether the runs in folders are supervised; not so where there are none.

    Raises:
        UserError: If some are, and others are not.
    """
    try:
        paths = find_runs(folders, lambda _: None)
    except UserError:
        return False
    kinds = {"dataset" in read_values(path / CONFIG): path for path in paths}
    if len(kinds) > 1:
        raise UserError(
            f"{kinds[True]} is a supervised run and {kinds[False]} is not: they do not belong in "
            "one table; report them apart"
        )
    return next(iter(kinds))


@dataclass(frozen=True)
class Findings:
    """Everything that a report says."""

    runs: list[SupervisedRecord]
    """All runs, complete or not."""
    summaries: list[Summary]
    """One per method: tasks alone, then the best first."""
    measures: list[Measure]
    """What is measured."""
    contrasts: list[Contrast]
    """With the methods that all others are to be compared with."""
    warnings: list[str]
    """What a reader must know before any number."""
    options: ReportOptions
    """What was asked for."""

    @property
    def methods(self) -> list[SupervisedMethod]:
        """The methods in their order."""
        return [summary.method for summary in self.summaries]

    @property
    def has_drop(self) -> bool:
        """Whether there are runs of tasks alone to compare with."""
        return any(not math.isnan(one.drop.value) for one in self.summaries)


def report_supervised(
    folders: Sequence[Path], options: ReportOptions, *, console: Console | None = None
) -> None:
    """Writes a report on all runs in folders, and prints its first table.

    Args:
        folders: Folders of runs, or of folders of runs.
        options: What to report, and where.
        console: Where to print; by default the standard output.

    Raises:
        UserError: If there is no complete run, a file is damaged, or runs are not comparable.
    """
    findings = find(folders, options)
    folder, table = options.out or DEFAULT_FOLDER, overall_table(findings)
    wide = len(findings.measures) <= MOST_COLUMNS
    write_report(
        folder,
        lambda: document(findings, folder),
        _figures(findings),
        _csv_files(findings),
        {"table.tex": to_latex(metrics_table(findings) if wide else table, _caption(findings))},
    )
    show_report(console or standard_output(), findings.warnings, table, folder)


def find(folders: Sequence[Path], options: ReportOptions) -> Findings:
    """Reads the runs in folders and finds their numbers.

    Raises:
        UserError: If there is no complete run, a file is damaged, or runs are not comparable.
    """
    for one in fields(options):
        if one.name not in _OF_BOTH and getattr(options, one.name) != one.default:
            raise UserError(f"{one.name} is no option for supervised runs; leave it out")
    left_out: list[str] = []
    runs = [read_run(path) for path in find_runs(folders, left_out.append)]
    known = dict.fromkeys(base_name(run) for run in runs)
    for name in options.methods:
        if name not in known:
            raise UserError(f"there is no run of a method {name!r}; {suggestion(name, known)}")
    runs = [run for run in runs if not options.methods or base_name(run) in options.methods]
    complete = [run for run in runs if run.is_complete]
    if not complete:
        none = f"of {counted(len(runs), 'run')} none is complete"
        raise UserError(f"{none}; train_supervised --resume DIR goes on")
    methods = group(complete)
    different = differences([run.protocol for run in complete], complete)
    found = objections([*different.values()], repeated_seeds(methods), force=options.force)
    measures = measures_of(methods)
    # Whole runs: the metrics of a network are not independent of each other.
    summaries = summarize(methods, measures, Bootstrap("runs", options.resamples))
    compared = numbers(summaries, measures), outcomes(measures, options.margin)
    against = contrasts(*compared, options.against)
    warnings = [*found, *remarks_on(runs, methods), *_lacking(methods), *left_out]
    return Findings(runs, summaries, measures, against, warnings, options)


def _lacking(methods: Sequence[SupervisedMethod]) -> list[str]:
    """What the comparison with tasks alone lacks."""
    alone = [method for method in methods if method.is_single_task]
    tasks = {task for method in methods for task in method.tasks}
    remarks = [
        f"Δm is without {', '.join(sorted(tasks - {*method.tasks}))}, of which there is no "
        f"single-task run in {method.name}."
        for method in alone
        if tasks - {*method.tasks}
    ]
    if len({frozenset(method.tasks) for method in methods if method not in alone}) > 1:
        remarks.append("Methods have learnt unlike sets of tasks: ranks are over what all have.")
    if len(alone) > 1:
        remarks.append(f"Δm is against {alone[0].name}, the first of several.")
    return remarks


def document(findings: Findings, folder: Path) -> Document:
    """The whole report, as it lies in a folder."""
    complete = sum(run.is_complete for run in findings.runs)
    tasks = dict.fromkeys(measure.task for measure in findings.measures)
    names = ", ".join(method.name for method in findings.methods)
    return Document(
        title=findings.options.title,
        summary=f"{counted(complete, 'complete run')}, {counted(len(tasks), 'task')}. "
        f"Methods: {names}.",
        warnings=findings.warnings,
        sections=[*_results(findings), *_inside(findings), *_runs(findings, folder)],
    )


def _results(findings: Findings) -> Iterator[Section]:
    drop = (
        "Δm: mean over all metrics of the relative change against the single-task runs (STL), a "
        "loss counting as positive, less is better; with 95 % bootstrap intervals over whole runs. "
    )
    yield Section(
        "Overall",
        f"After the last epoch. {drop if findings.has_drop else ''}Mean rank: over all metrics, of "
        "the mean over runs, among the methods that share a network; 1 is best.",
        table=overall_table(findings),
    )
    few = len(findings.measures) <= MOST_PANELS
    yield Section(
        "Metrics",
        "After the last epoch, on the split that the protocol names: mean and standard error over "
        "runs; ↑ more and ↓ less is better. The picture shows 95 % bootstrap intervals.",
        [Picture("metrics", "Each metric by method with its interval")] if few else [],
        metrics_table(findings),
    )
    yield from contrast_sections(
        findings.contrasts,
        findings.options.against,
        f"{100 * findings.options.margin:g} % of its mean, or as many points of Δm",
    )
    if any(not method.is_single_task for method in findings.methods):
        yield Section(
            "Losses over training",
            "In evaluation: mean over runs; the band is one standard error over them.",
            [Picture("losses", "Loss of each task in evaluation over updates by method")],
        )


def _inside(findings: Findings) -> Iterator[Section]:
    for name, (_, _, title) in _TRACED.items():
        if _traced(findings, name):
            yield Section(
                title,
                "Geometric mean over runs and, with few tasks, the band from the least to the "
                "greatest of them. Methods that log none are left out.",
                [Picture(name, f"{title} by task over updates, for each method")],
            )


def _runs(findings: Findings, folder: Path) -> Iterator[Section]:
    rows: list[list[Cell]] = [
        [
            (Link(run.path.name, link_to(run.path, folder)),),
            run.config.method,
            ", ".join(run.tasks) if run.is_single_task else counted(len(run.tasks), "task"),
            str(run.config.seed),
            f"{run.epochs} of {run.config.length}",
            number(run.epoch_seconds, ",.3g"),
            number(run.seconds / 3600),
        ]
        for run in findings.runs
    ]
    columns = ["run", "method", "tasks", "seed", "epochs", "s / epoch", "hours"]
    yield Section(
        "Runs",
        "With what lies in their folders. Seconds of an epoch are those of training alone, on "
        "whatever else the machine had to do.",
        table=Table(columns, rows, False),
    )
    if (settings := settings_table(findings.methods)).rows:
        yield Section("Differing settings", "All others are the same.", table=settings)
    yield Section(
        "Protocol",
        "What these numbers mean, and the versions that made them.",
        table=protocol_table(findings.runs),
    )


def overall_table(findings: Findings) -> Table:
    """Mean rank and delta-m."""
    columns = ["method", "runs", "MR ↓", *(["Δm % ↓"] if findings.has_drop else [])]
    rows = []
    for one in findings.summaries:
        value, low, high = one.drop
        ends = "" if math.isnan(low) else f" [{low:+.2f}, {high:+.2f}]"
        drop = number(value, "+.2f") + ends
        cells = [one.method.name, str(len(one.method.runs)), number(one.rank)]
        rows.append([*cells, drop] if findings.has_drop else cells)
    return Table(columns, rows)


def metrics_table(findings: Findings) -> Table:
    """Every metric: a column each as in the paper, or a row each if they are many."""
    titles = [measure.title for measure in findings.measures]
    cells = [
        [_estimate(one, place, measure) for place, measure in enumerate(findings.measures)]
        for one in findings.summaries
    ]
    names = [one.method.name for one in findings.summaries]
    if len(titles) > MOST_COLUMNS:
        columns = list(zip(*cells, strict=True))
        return Table(["metric", *names], [[t, *c] for t, c in zip(titles, columns, strict=True)])
    overall = [list(row[2:]) for row in overall_table(findings).rows]
    rows = [[n, *c, *o] for n, c, o in zip(names, cells, overall, strict=True)]
    return Table(["method", *titles, *overall_table(findings).columns[2:]], rows)


def _estimate(summary: Summary, place: int, measure: Measure) -> str:
    value, error = summary.estimates[place]
    form = f".{measure.metric.decimals}f"
    return number(value, form) + ("" if math.isnan(error) else f" ± {error:{form}}")


def _caption(findings: Findings) -> str:
    counts = sorted({len(method.runs) for method in findings.methods})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    dataset = findings.methods[0].runs[0].config.dataset
    return f"Results on {dataset} across {seeds} random seeds, mean and standard error."


def _traced(findings: Findings, name: str) -> dict[str, dict[str, dict[str, Trace]]]:
    quantity, part, _ = _TRACED[name]
    return traced(findings.methods, quantity, (part,))


def _figures(findings: Findings) -> dict[str, Figure]:
    """The pictures that there is something for, by file name without its ending."""
    methods = findings.methods
    styles, figures = method_styles(methods), {}
    if len(findings.measures) <= MOST_PANELS:
        figures["metrics"] = measures_figure(findings.summaries, findings.measures, styles)
    if any(not method.is_single_task for method in methods):
        figures["losses"] = losses_figure(methods, styles)
    for name, (quantity, _, _) in _TRACED.items():
        if found := _traced(findings, name):
            figures[name] = traces_figure(found, quantity, UPDATES)
    return figures


def _csv_files(findings: Findings) -> Mapping[str, Iterable[Row]]:
    return {
        "methods.csv": _method_rows(findings),
        "metrics.csv": _metric_rows(findings),
        "scores.csv": _score_rows(findings),
        "curves.csv": _curve_rows(findings),
        "traces.csv": _trace_rows(findings),
        "contrasts.csv": contrast_rows(findings.contrasts),
    }


def _method_rows(findings: Findings) -> Iterator[Row]:
    for one in findings.summaries:
        value, low, high = one.drop
        row: Row = {"method": one.method.name, "runs": len(one.method.runs)}
        row |= {"mean_rank": one.rank, "delta_m_percent": value}
        seconds = float(np.median([run.epoch_seconds for run in one.method.runs]))
        yield row | {"delta_m_low": low, "delta_m_high": high, "epoch_seconds": seconds}


def _metric_rows(findings: Findings) -> Iterator[Row]:
    for one in findings.summaries:
        for place, (task, metric) in enumerate(findings.measures):
            value, error = one.estimates[place]
            names: Row = {"method": one.method.name, "task": task, "metric": metric.name}
            better = "higher" if metric.higher_is_better else "lower"
            interval = one.intervals[place]
            numbers = {"mean": value, "error": error, "low": interval.low, "high": interval.high}
            yield {**names, "unit": metric.unit, "better": better, **numbers}


def _score_rows(findings: Findings) -> Iterator[Row]:
    for method in findings.methods:
        for run in method.runs:
            for task, values in run.final.items():
                for metric, value in values.items():
                    names: Row = {"method": method.name, "seed": run.config.seed}
                    yield {**names, "task": task, "metric": metric, "value": value}


def _curve_rows(findings: Findings) -> Iterator[Row]:
    for method in findings.methods:
        for run in method.runs:
            for updates, evaluation in run.evaluations.items():
                for task, values in evaluation.items():
                    for metric, value in values.items():
                        names: Row = {"method": method.name, "seed": run.config.seed}
                        yield {
                            **names,
                            "updates": updates,
                            "task": task,
                            "metric": metric,
                            "value": value,
                        }


def _trace_rows(findings: Findings) -> Iterator[Row]:
    for name in _TRACED:
        for method, parts in _traced(findings, name).items():
            for of_tasks in parts.values():
                for task, trace in of_tasks.items():
                    columns: Any = zip(*(values.tolist() for values in trace), strict=True)
                    for step, middle, low, high in columns:
                        names: Row = {"quantity": name, "method": method, "task": task}
                        yield {**names, "updates": step, "mean": middle, "low": low, "high": high}
