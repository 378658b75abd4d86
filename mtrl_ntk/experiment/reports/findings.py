"""What a report says: the runs that belong in it, their numbers, and what to mind about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.options.fields import suggestion
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.reports import anchors as published
from mtrl_ntk.experiment.reports.anchors import Anchors, find_anchors
from mtrl_ntk.experiment.reports.contrasts import Contrast, Outcome, Values, by_seed, contrasts
from mtrl_ntk.experiment.reports.data import (
    AnyMethod,
    AnyRun,
    Method,
    Run,
    Say,
    base_name,
    differences,
    find_runs,
    group_runs,
    measured,
    read_run,
    repeated_seeds,
    with_returns_as_shares,
)
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.statistics import Bootstrap
from mtrl_ntk.experiment.reports.summary import (
    Budget,
    Comparison,
    Summary,
    areas,
    budget,
    compare,
    summarize,
)

_FEW_RUNS = 5


@dataclass(frozen=True)
class Findings:
    """Everything that a report says."""

    runs: list[Run]
    """All runs, complete or not."""
    summaries: list[Summary]
    """One per method, the best first."""
    comparison: Comparison
    """Of the methods, in that order."""
    contrasts: list[Contrast]
    """With the methods that all others are to be compared with."""
    until: Budget
    """What areas under learning curves are over."""
    anchors: list[Anchors]
    """Published numbers beside them."""
    warnings: list[str]
    """What a reader must know before any number."""
    unlike: list[str]
    """In what the runs differ that makes their numbers mean different things."""
    options: ReportOptions
    """What was asked for."""

    @property
    def methods(self) -> list[Method]:
        """The methods, the best first."""
        return [summary.method for summary in self.summaries]

    @property
    def complete(self) -> list[Run]:
        """Runs that the numbers are of."""
        return [run for run in self.runs if run.is_complete]

    @property
    def measured(self) -> str:
        """What the numbers are."""
        return measured(self.complete)

    @property
    def incomplete(self) -> list[Run]:
        """Runs that are in no number."""
        return [run for run in self.runs if not run.is_complete]


def find(
    folders: Sequence[Path],
    options: ReportOptions,
    evaluate: Callable[[Run, Say], Run] | None = None,
) -> Findings:
    """Reads the runs in folders and finds their numbers.

    Args:
        folders: Folders of runs, or of folders of runs.
        options: What to report.
        evaluate: Completes a complete run; it is given what takes remarks.

    Raises:
        UserError: If there is no complete run, a file is damaged, or runs are not comparable.
    """
    anchors = find_anchors(options.anchors)
    left_out: list[str] = []
    paths = find_runs(folders, left_out.append)
    read = [read_run(path, options.until) for path in paths]
    runs = with_returns_as_shares(_chosen(read, options.methods))
    complete = [run for run in runs if run.is_complete]
    if not complete:
        raise UserError(
            f"of {counted(len(runs), 'run')} none is complete; train_mt10 --resume DIR goes on"
        )
    # Incomplete runs are in no table of results, so that they cannot make one wrong.
    if evaluate is not None:
        runs = [evaluate(run, left_out.append) if run.is_complete else run for run in runs]
        complete = [run for run in runs if run.is_complete]
    methods = group_runs(complete)
    different = differences([run.protocol for run in complete], complete)
    warnings = _objections([*different.values()], methods, anchors, options)
    bootstrap, until = Bootstrap(options.resample, options.resamples), budget(methods)
    summaries = [summarize(method, options.last, bootstrap, until) for method in methods]
    summaries.sort(key=lambda one: -one.success.value)
    ordered = [one.method for one in summaries]
    comparison = compare(ordered, bootstrap)
    against = contrasts(_values(ordered, until), _outcomes(options.margin), options.against)
    if any(run.counts_returns for run in complete):
        warnings.append(_SHARES)
    warnings += [*remarks_on(runs, ordered, _unseen_remarks(runs)), *left_out]
    unlike = [*different]
    return Findings(runs, summaries, comparison, against, until, anchors, warnings, unlike, options)


_SHARES = (
    "Nothing counts as success in these tasks. A scaled return is the mean return of a task, from "
    "0 for the lowest to 1 for the highest that any of these runs has evaluated."
)


def _outcomes(margin: float) -> list[Outcome]:
    """What methods are compared by."""
    titles = {
        "area_updates": "area over updates",
        "success": "last evaluation",
        "unseen": "on unseen goals",
    }
    return [Outcome(name, title, margin) for name, title in titles.items()]


def _values(methods: Sequence[Method], until: Budget) -> Values:
    """The numbers that methods are compared by."""
    values = {}
    for method in methods:
        seeds = [run.config.seed for run in method.runs]
        numbers = {
            "area_updates": [areas(run, until).updates for run in method.runs],
            "success": method.final.mean(1).tolist(),
            "unseen": [] if method.unseen is None else method.unseen.mean(1).tolist(),
        }
        values[method.name] = {name: by_seed(seeds, of) for name, of in numbers.items() if of}
    return values


def _chosen(runs: list[Run], names: Sequence[str]) -> list[Run]:
    known = dict.fromkeys(base_name(run) for run in runs)
    for name in names:
        if name not in known:
            raise UserError(f"there is no run of a method {name!r}; {suggestion(name, known)}")
    return [run for run in runs if not names or base_name(run) in names]


def _objections(
    different: Sequence[str],
    methods: Sequence[Method],
    anchors: Sequence[Anchors],
    options: ReportOptions,
) -> list[str]:
    """Why the runs do not belong into one table; an error unless it is wanted all the same."""
    foreign = bool(anchors) and not all(published.are_of(method.tasks) for method in methods)
    found = objections(different, repeated_seeds(methods), force=options.force)
    if foreign and not options.force:
        raise UserError(
            f"the anchors are success rates of the tasks of {published.BENCHMARK}, which these "
            "runs were not trained on; leave --anchors out, or add --force"
        )
    of_others = ["The published numbers are of other tasks than these runs."]
    return [*found, *(of_others if foreign else [])]


def objections(different: Sequence[str], repeated: Sequence[str], *, force: bool) -> list[str]:
    """Why runs of any kind do not belong into one table; an error unless it is forced.

    Raises:
        UserError: If they do not.
    """
    if different and not force:
        raise UserError(
            "these runs differ in protocol and do not belong in one table; report them apart, or "
            f"add --force: {' | '.join(different)}"
        )
    if repeated and not force:
        raise UserError(
            "several runs of one seed would count as independent; leave all but one out, or add "
            f"--force: {' | '.join(repeated)}"
        )
    return [
        *(f"Not comparable, forced into one report. {line}" for line in different),
        *(f"Counted as independent although they share a seed. {line}" for line in repeated),
    ]


def _unseen_remarks(runs: Sequence[Run]) -> list[str]:
    complete = [run for run in runs if run.is_complete]
    waiting = [run for run in complete if run.unseen is None]
    if not waiting or len(waiting) == len(complete):
        return []
    which = counted(len(waiting), "run")
    return [f"Not evaluated on unseen goals, which report_mt10 --evaluate does: {which}."]


def remarks_on(
    runs: Sequence[AnyRun], methods: Sequence[AnyMethod], more: Sequence[str] = ()
) -> list[str]:
    """What a reader should know of runs of any kind before any number.

    Args:
        runs: All runs.
        methods: Those that are complete.
        more: What else, after what is said of versions.
    """
    incomplete = [run for run in runs if not run.is_complete]
    single = [method.name for method in methods if len(method.runs) == 1]
    few = sorted({len(method.runs) for method in methods if len(method.runs) > 1})
    remarks = [
        f"Made by different versions. {line}"
        for line in differences([run.versions for run in runs], runs).values()
    ]
    remarks += more
    if incomplete:
        count = f"{len(incomplete)} of {counted(len(runs), 'run')}"
        remarks.append(f"Incomplete and left out of all numbers: {count}.")
    if single:
        remarks.append(f"One run only, so without error or interval: {'; '.join(single)}.")
    if few and few[0] < _FEW_RUNS:
        remarks.append(
            f"Only {few[0]} runs of a method: intervals of so few are rough, mostly too narrow."
        )
    return remarks
