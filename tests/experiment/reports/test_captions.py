"""What the tables for papers say of the tasks that their numbers are of."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.report import report_runs
from mtrl_ntk.rl.envs import BENCHMARKS
from tests.experiment.run_folders import TASKS, TOTAL, make_config, write_run_folder

MT10 = BENCHMARKS["MT10"]

pytestmark = pytest.mark.usefixtures("undrawn")


def captions(tmp_path: Path, *task_lists: tuple[str, ...], force: bool = False) -> list[str]:
    """The captions of both LaTeX tables, of a report on runs of these tasks."""
    for number, tasks in enumerate(task_lists, 1):
        config = make_config(method="equal", tasks=list(tasks), seed=number)
        rates = [0.5] * len(tasks)
        write_run_folder(tmp_path / "runs" / str(number), config, {TOTAL: rates})
    options = ReportOptions(out=tmp_path / "report", resamples=10, force=force)
    report_runs([tmp_path / "runs"], options)
    texts = [(tmp_path / "report" / f"{name}.tex").read_text() for name in ("table", "aggregates")]
    return [line for text in texts for line in text.splitlines() if line.startswith(r"\caption")]


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (MT10, "Results on the MT10 benchmark across 2 random seeds"),
        (MT10[::-1], "Results on the MT10 benchmark across"),
        (TASKS, "Results on 3 tasks across"),
        (MT10[:9], "Results on 9 tasks across"),
    ],
)
def test_a_benchmark_is_named_where_it_is_one(
    tmp_path: Path, tasks: tuple[str, ...], words: str
) -> None:
    for caption in captions(tmp_path, tasks, tasks):
        assert words in caption
        assert "Not comparable" not in caption


def test_one_run_of_one_task_is_no_plural(tmp_path: Path) -> None:
    for caption in captions(tmp_path, TASKS[:1]):
        assert "Results on 1 task across 1 random seed, last evaluation." in caption
    page = (tmp_path / "report" / "report.md").read_text()
    assert "1 complete run, 1 common task." in page


@pytest.mark.parametrize(
    ("others", "words"), [(TASKS, "sets of 3 and 10 tasks"), (MT10[1:] + TASKS[2:3], "sets of")]
)
def test_unlike_tasks_are_never_called_a_benchmark(
    tmp_path: Path, others: tuple[str, ...], words: str
) -> None:
    for caption in captions(tmp_path, MT10, tuple(dict.fromkeys(others)), force=True):
        assert words in caption
        assert "MT10" not in caption
        assert "Not comparable: the runs differ in tasks" in caption
