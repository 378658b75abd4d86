"""The sections of a report: which there are depends on what there is to say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mtrl_ntk.experiment.files.layout import RUN_INFO
from mtrl_ntk.experiment.reports import plots
from mtrl_ntk.experiment.reports.findings import find
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.pages import Document, Section, to_markdown
from mtrl_ntk.experiment.reports.sections import document
from mtrl_ntk.experiment.reports.styles import method_styles
from mtrl_ntk.experiment.reports.tables import paper_table
from mtrl_ntk.experiment.types import NO_SUCCESS

ALWAYS = [
    *("Success rate", "Performance profiles", "Learning curves", "Learning curves by task"),
    *("Tasks", "Runs", "Cost", "Protocol"),
]


def titles(folders: list[Path], options: ReportOptions) -> list[str]:
    return [section.title for section in document(find(folders, options), Path()).sections]


def test_a_single_run_is_compared_with_nothing(runs: Path) -> None:
    found = titles([runs / "equal-seed1"], ReportOptions(resamples=10))
    assert [title for title in found if title in ALWAYS] == ALWAYS
    assert not {
        "Probability of improvement",
        "Incomplete runs",
        "Differing settings",
        "Unseen goals",
    } & {*found}


def test_what_there_is_has_a_section(runs: Path) -> None:
    options = ReportOptions(resamples=10, anchors=("table4",), force=True)
    found = titles([runs], options)
    assert [title for title in found if title in ALWAYS] == ALWAYS
    assert {
        "Probability of improvement",
        "Incomplete runs",
        "Task weights",
        "Differing settings",
    } <= {*found}
    assert [title for title in found if title.startswith("Published: ")]
    assert len({*found}) == len(found)


def test_returns_are_not_called_success(runs: Path, tmp_path: Path) -> None:
    for name in ("equal-seed1", "equal-seed2", "pcgrad-seed1"):
        folder = shutil.copytree(runs / name, tmp_path / name)
        info = json.loads((folder / RUN_INFO).read_text())
        info["protocol"]["success"] = NO_SUCCESS
        (folder / RUN_INFO).write_text(json.dumps(info))
    findings = find([tmp_path], ReportOptions(resamples=10))
    methods, styles = findings.methods, method_styles(findings.methods)
    figures = [
        plots.curves_figure(methods, styles),
        plots.profiles_figure(methods, styles),
        plots.tasks_figure(findings.summaries),
    ]
    titles = [
        text
        for figure in figures
        for axes in figure.axes
        for text in (axes.get_title(loc="left"), axes.get_xlabel())
    ]
    page = to_markdown(document(findings, tmp_path)) + to_markdown(
        Document("", "", [], [Section("", "", [], paper_table(findings.summaries))])
    )
    lines = [*titles, *page.replace(NO_SUCCESS, "").splitlines()]
    said = [line for line in lines if "success" in line.lower()]
    assert [line.split()[1] for line in said] == ["**Note:**", "success"], said  # and the protocol
    assert sum("caled return" in line for line in lines) > 10


@pytest.mark.parametrize(
    ("metrics", "is_drawn"), [(("success",), True), (("rank",), False), (("iqm", "rank"), True)]
)
def test_metrics_are_explained_as_far_as_they_are_shown(
    runs: Path, metrics: tuple[str, ...], *, is_drawn: bool
) -> None:
    options = ReportOptions(resamples=10, metrics=metrics)
    first = document(find([runs / "equal-seed1", runs / "pcgrad-seed1"], options), Path()).sections[
        0
    ]
    for metric, word in {"iqm": "IQM: ", "rank": "Mean rank: ", "gap": "Optimality gap: "}.items():
        assert (word in first.note) == (metric in metrics)
    assert bool(first.pictures) == is_drawn
