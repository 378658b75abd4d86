"""report_mt10: finds the numbers of runs, and writes pages, tables and pictures of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.files.csv_files import Row
from mtrl_ntk.experiment.logs.progress import standard_output
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.plots.run_plots import save_both
from mtrl_ntk.experiment.reports import plots, rows, tables
from mtrl_ntk.experiment.reports.data import Run, Say
from mtrl_ntk.experiment.reports.findings import Findings, find
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.pages import Document, Table, plain, to_html, to_latex, to_markdown
from mtrl_ntk.experiment.reports.sections import document
from mtrl_ntk.experiment.reports.styles import method_styles
from mtrl_ntk.experiment.reports.traces import TRACED, traced, traces_figure
from mtrl_ntk.experiment.reports.unseen import find_unseen
from mtrl_ntk.rl.suites.registry import SUITES, load_suite

DEFAULT_FOLDER = Path("report")
PAGE = "index.html"
_PRINTED_COLUMNS = 4


def report_runs(
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
    console = console or standard_output()
    evaluate = partial(_evaluated, console) if options.evaluate else None
    if options.suite is not None:
        load_suite(options.suite)
    findings = find(folders, options, evaluate)
    folder = options.out or DEFAULT_FOLDER
    captions = _caption(findings), f"{_caption(findings)} In brackets, 95% bootstrap intervals."
    table, paper = _success_table(findings), tables.paper_table(findings.summaries)
    write_report(
        folder,
        lambda: document(findings, folder),
        _figures(findings),
        _csv_files(findings),
        {
            "table.tex": to_latex(paper, captions[0]),
            "aggregates.tex": to_latex(table, captions[1]),
        },
    )
    show_report(console, findings.warnings, table, folder)


def write_report(
    folder: Path,
    contents: Callable[[], Document],
    figures: Mapping[str, Figure],
    csv_files: Mapping[str, Iterable[Row]],
    texts: Mapping[str, str],
) -> None:
    """Writes a report of any kind into a folder.

    Args:
        folder: The folder, made if it is not there.
        contents: Makes the document.
        figures: Pictures by the name of their files.
        csv_files: Rows by the name of their file; one without rows is removed.
        texts: Further files.

    Raises:
        UserError: If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            save_both(figure, folder / name, palette=name in TRACED)
        for name, of_file in csv_files.items():
            if written := list(of_file):
                rows.write_csv(folder / name, written)
            else:
                # What an earlier report left there would be taken for one of these runs.
                (folder / name).unlink(missing_ok=True)
        document = contents()
        pages = {PAGE: to_html(document, folder), "report.md": to_markdown(document)}
        for name, text in {**pages, **texts}.items():
            atomic.write(folder / name, text)
    except OSError as error:
        reason = f"{error.strerror}; choose another --out"
        raise UserError(f"cannot write to {folder}: {reason}") from error


def show_report(console: Console, warnings: Sequence[str], table: Table, folder: Path) -> None:
    """Prints what a reader must know, the first columns of a table, and where the page is."""
    for warning in warnings:
        console.print(Text(warning, style="yellow"), soft_wrap=True)
    console.print(_printed(table))
    console.print(Text(str(folder / PAGE)), soft_wrap=True)


def _evaluated(console: Console, run: Run, say: Say) -> Run:
    """A run with its success on unseen goals, which is evaluated if that has not been done."""
    if run.unseen is not None:
        return run
    # Only here: it brings the simulations with it.
    from mtrl_ntk.experiment.evaluation.evaluate import evaluate_unseen

    try:
        result = evaluate_unseen(run.path, console)
    except UserError as error:
        say(f"Not evaluated on unseen goals: {run.path}: {error}")
        return run
    found = find_unseen(run.path, run.config, run.reached)
    if found is None:
        say(f"Not evaluated on unseen goals: {run.path}, whose last checkpoint is missing.")
    else:
        rate = f"{result.mean_success_rate:.0%}"
        console.print(Text(f"{run.path}: {rate} on unseen goals"), soft_wrap=True)
    return replace(run, unseen=found)


def _success_table(findings: Findings) -> Table:
    return tables.success_table(findings.summaries, findings.comparison, findings.options.metrics)


def _figures(findings: Findings) -> dict[str, Figure]:
    """The pictures that there is something for, by file name without its ending."""
    summaries, methods = findings.summaries, findings.methods
    styles = method_styles(methods)
    figures = {
        "curves": plots.curves_figure(methods, styles, findings.anchors),
        "task_curves": plots.task_curves_figure(methods, styles),
        "tasks": plots.tasks_figure(summaries),
        "profiles": plots.profiles_figure(methods, styles),
    }
    if metrics := tables.aggregate_names(findings.options.metrics):
        figures["aggregates"] = plots.aggregates_figure(summaries, styles, metrics)
    for quantity in TRACED:
        if found := traced(methods, quantity):
            figures[quantity] = traces_figure(found, quantity)
    return figures


def _csv_files(findings: Findings) -> dict[str, Iterable[Row]]:
    summaries, comparison, methods = findings.summaries, findings.comparison, findings.methods
    return {
        "methods.csv": rows.method_rows(summaries, comparison),
        "runs.csv": rows.run_rows(findings.runs, methods, findings.until),
        "scores.csv": rows.score_rows(methods),
        "tasks.csv": rows.task_rows(summaries),
        "curves.csv": rows.curve_rows(methods),
        "task_curves.csv": rows.task_curve_rows(methods),
        "traces.csv": rows.trace_rows(methods),
        "improvement.csv": rows.improvement_rows(summaries, comparison),
        "run_curves.csv": rows.run_curve_rows(methods),
        "contrasts.csv": rows.contrast_rows(findings.contrasts),
    }


def _caption(findings: Findings) -> str:
    """That of the paper's Table 4, with what these runs are."""
    runs = sorted({len(method.runs) for method in findings.methods})
    seeds = counted(runs[-1], "random seed")
    if len(runs) > 1:
        seeds = f"{runs[0]} to {seeds}"
    caption = f"Results on {_tasks_of(findings)} across {seeds}, last evaluation."
    if findings.unlike:
        caption += f" Not comparable: the runs differ in {', '.join(findings.unlike)}."
    return caption


def _tasks_of(findings: Findings) -> str:
    """What the runs were trained on, in words."""
    sets = {frozenset(run.tasks) for run in findings.complete}
    if len(sets) > 1:
        counts = sorted({len(tasks) for tasks in sets})
        return f"unlike sets of {' and '.join(map(str, counts))} tasks"
    (tasks,) = sets
    suite = SUITES.get(findings.complete[0].config.env.suite)
    if suite is None or suite.source:
        return f"{len(tasks)} tasks"
    benchmarks = suite.benchmarks
    names = [name for name, known in benchmarks.items() if tasks == frozenset(known)]
    return f"the {names[0]} benchmark" if names else counted(len(tasks), "task")


def _printed(table: Table) -> RichTable:
    """The columns that fit any terminal."""
    printed = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(table.columns[:_PRINTED_COLUMNS]):
        printed.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
    for row in table.rows:
        printed.add_row(*(Text(plain(cell)) for cell in row[:_PRINTED_COLUMNS]))
    return printed
