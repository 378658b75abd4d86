"""The sections of a report: which there are depends on what there is to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.experiment.reports.findings import find
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.sections import document

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
