"""The sections of a report: what stands under each heading, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.reports import tables
from mtrl_ntk.experiment.reports.anchors import Anchors
from mtrl_ntk.experiment.reports.contrasts import Contrast
from mtrl_ntk.experiment.reports.findings import Findings
from mtrl_ntk.experiment.reports.pages import Document, Picture, Section
from mtrl_ntk.experiment.reports.traces import traced


def document(findings: Findings, folder: Path) -> Document:
    """The whole report, as it lies in a folder."""
    names = ", ".join(method.name for method in findings.methods)
    tasks = findings.comparison.tasks
    return Document(
        title=findings.options.title,
        summary=f"{counted(len(findings.complete), 'complete run')}, "
        f"{counted(len(tasks), 'common task')}. "
        f"Methods: {names}.",
        warnings=findings.warnings,
        sections=[
            *_scores(findings),
            *_learning(findings),
            *_tasks(findings),
            *_inside(findings),
            *(_published(findings, anchors) for anchors in findings.anchors),
            *_runs(findings, folder),
        ],
    )


def _scores(findings: Findings) -> Iterator[Section]:
    summaries, comparison, options = findings.summaries, findings.comparison, findings.options
    yield Section(
        findings.measured.capitalize(),
        "Last evaluation: mean and standard error over runs of the mean over tasks. "
        + _metrics_note(findings),
        [Picture("aggregates", f"Aggregates of the {findings.measured} with their intervals")]
        if tables.aggregate_names(options.metrics)
        else [],
        tables.success_table(summaries, comparison, options.metrics),
    )
    yield from _unseen(findings)
    yield Section(
        "The same runs by other rules of selection",
        "Published numbers mix these rules; the two maxima are biased upwards. Compare only "
        "numbers found by the same rule.",
        table=tables.selection_table(summaries, options.last),
    )
    if comparison.improvement:
        yield Section(
            "Probability of improvement",
            "Chance that a run of the method of the row beats one of the method of the column on "
            "a task, ties counting half; with 95 % bootstrap intervals. An interval that holds 0.5 "
            "shows no difference.",
            table=tables.improvement_table(summaries, comparison),
        )
    yield from contrast_sections(findings.contrasts, options.against, f"{options.margin:g}")
    yield Section(
        "Performance profiles",
        f"The higher a line, the more runs and tasks are above a {findings.measured}.",
        [Picture("profiles", f"Share of runs and tasks above each {findings.measured}")],
    )


def contrast_sections(
    contrasts: Sequence[Contrast], baselines: Sequence[str], margin: str
) -> Iterator[Section]:
    """What separates methods from each of some baselines.

    Args:
        contrasts: All that was found.
        baselines: Names of those that the others are compared with.
        margin: The difference that is too small to matter, in words.
    """
    for baseline in baselines:
        yield Section(
            f"Differences from {baseline}",
            "Mean over the seeds that both have of the difference of their runs, with 95 % "
            "intervals by Student's t; p values of the paired t-test after Holm's correction for "
            "the methods of the table. Better and worse: p below 0.05. Equivalent: two one-sided "
            f"tests reject differences beyond {margin}.",
            table=tables.contrasts_table(contrasts, baseline),
        )


def _unseen(findings: Findings) -> Iterator[Section]:
    summaries = findings.summaries
    if not any(one.has_unseen for one in summaries):
        return
    yield Section(
        "Unseen goals",
        "The agent of the last step, on goals that training never met, each once, as evaluate_mt10 "
        "runs it by default; training goals are those of the last evaluation while training. "
        "Mean and standard error over runs; below, by task.",
        table=tables.unseen_table(summaries),
        more=[tables.task_table({one.method.name: one.unseen_by_task for one in summaries})],
    )


def _metrics_note(findings: Findings) -> str:
    summaries, comparison, options = findings.summaries, findings.comparison, findings.options
    drawn = "runs of each task apart" if options.resample == "tasks" else "whole runs"
    left_out = ", ".join(comparison.left_out)
    without = f", without {left_out}, on which those score nothing" if left_out else ""
    meaning = {
        "unseen": "On unseen goals: the same of goals that training never met.",
        "iqm": "IQM: mean of the middle half of all runs and tasks.",
        "median": "Median: over tasks, of the mean over runs.",
        "gap": "Optimality gap: mean distance from 1, less is better.",
        "delta_m": "Δm: mean loss relative to the single-task runs (STL), less is better"
        f"{without}.",
        "rank": "Mean rank: over tasks, of the mean over runs, 1 is best.",
    }
    shown = [meaning[name] for name in tables.columns(summaries, comparison, options.metrics)[1:]]
    if tables.aggregate_names(options.metrics):
        shown.append(f"In brackets, 95 % bootstrap intervals that resample {drawn}.")
    return " ".join(shown)


def _published(findings: Findings, anchors: Anchors) -> Section:
    return Section(
        f"Published: {anchors.title}",
        f"{anchors.source}. Numbers: {anchors.statistic}. {anchors.remark} They were found under "
        "another protocol, which the second table puts beside that of these runs, and are shown "
        "for orientation only.",
        table=tables.anchors_table(anchors, findings.summaries),
        more=[tables.protocols_table(anchors, findings.complete)],
    )


def _learning(findings: Findings) -> Iterator[Section]:
    measured = findings.measured.capitalize()
    lines = " Level: of each published table the best number, of these methods if it has any."
    yield Section(
        "Learning curves",
        "Mean over tasks and runs; the band is one standard error over runs. The legend shows the "
        f"last value.{lines if findings.anchors else ''}",
        [Picture("curves", f"{measured} over environment steps by method")],
    )
    yield Section(
        "Learning curves by task",
        "Mean over runs; the band is one standard error over them.",
        [Picture("task_curves", f"{measured} over environment steps of each task by method")],
    )
    yield Section(
        "Speed of learning",
        f"Area: mean {findings.measured} over the updates, and over the seconds, that every run "
        "here has had; before the first evaluation the curve rises from zero. Steps: environment "
        f"steps until the first evaluation at a {findings.measured}, median over runs (of an even "
        "number, the later of the middle two); in parentheses how many runs got there.",
        table=tables.speed_table(findings.summaries, findings.until),
    )


def _tasks(findings: Findings) -> Iterator[Section]:
    yield Section(
        "Tasks",
        "Last evaluation: mean over runs. The picture shows 95 % bootstrap intervals below "
        "the rates, the table standard errors.",
        [Picture("tasks", f"{findings.measured.capitalize()} by task and method")],
        tables.task_table({one.method.name: one.by_task for one in findings.summaries}),
    )


def _inside(findings: Findings) -> Iterator[Section]:
    note = (
        "Geometric mean over runs and, with few tasks, the band from the least to the greatest of "
        "them. Zeros have no place on the scale, and methods that log none are left out. "
    )
    headings = {
        "weights": ("Task weights", "Methods scale their weights differently: compare tasks."),
        "ntk": (
            "Largest eigenvalues of the tangent kernels",
            "Panels of a network share their axis.",
        ),
    }
    for quantity, (title, reading) in headings.items():
        if traced(findings.methods, quantity):
            yield Section(
                title,
                note + reading,
                [Picture(quantity, f"{title} by task over environment steps, for each method")],
            )


def _runs(findings: Findings, folder: Path) -> Iterator[Section]:
    yield Section(
        "Runs",
        "Those that the numbers are of, with what lies in their folders.",
        table=tables.runs_table(findings.methods, folder),
    )
    if (settings := tables.settings_table(findings.methods)).rows:
        yield Section("Differing settings", "All others are the same.", table=settings)
    yield Section(
        "Cost",
        "Medians over runs. Rates are those between evaluations, hours include them; both depend "
        "on the machine and on what else it did.",
        table=tables.cost_table(findings.summaries),
    )
    if findings.incomplete:
        yield Section(
            "Incomplete runs",
            "In none of the numbers and pictures above.",
            table=tables.incomplete_table(findings.incomplete),
        )
    yield Section(
        "Protocol",
        "What these numbers mean, and the versions that made them.",
        table=tables.protocol_table(findings.complete),
    )
