"""The report as a whole: its numbers found again from the runs' files, its pages and refusals."""

from __future__ import annotations

import base64
import csv
import re
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from rich.console import Console

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.report import report_runs

PICTURES = ["aggregates", "curves", "ntk", "profiles", "task_curves", "tasks", "weights"]
PICTURE_FILES = [f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")]
TABLES = [
    *("curves.csv", "improvement.csv", "methods.csv", "runs.csv", "scores.csv", "tasks.csv"),
    *("run_curves.csv", "task_curves.csv", "traces.csv"),
]
PAGES = ["aggregates.tex", "index.html", "report.md", "table.tex"]


def report(*folders: Path, **options: object) -> list[str]:
    """The lines that a report prints."""
    console = Console(file=StringIO(), width=120)
    chosen = ReportOptions(**{"resamples": 200, **options})  # type: ignore[arg-type]
    report_runs(folders, chosen, console=console)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_method(path: Path) -> dict[str, dict[str, str]]:
    return {row["method"]: row for row in rows(path)}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "a" / "report"


@pytest.fixture(scope="module", autouse=True)
def printed(runs: Path, out: Path) -> list[str]:
    """Writes a report into the folder; the lines that it prints."""
    return report(runs, out=out, last=2)


def test_everything_is_written(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == sorted(PICTURE_FILES + TABLES + PAGES)
    for name in PICTURES:
        with Image.open(out / f"{name}.png") as picture:
            picture.load()
            assert picture.width > 300
        assert ElementTree.parse(out / f"{name}.svg").getroot().tag.endswith("}svg")


@pytest.mark.usefixtures("undrawn")
def test_methods_are_compared_with_those_that_are_asked_for(runs: Path, tmp_path: Path) -> None:
    report(runs, out=tmp_path, against=("equal", "STL"), margin=0.1)
    found = rows(tmp_path / "contrasts.csv")
    assert {(row["baseline"], row["method"]) for row in found} >= {("STL", "equal")}
    (one,) = [
        row
        for row in found
        if (row["method"], row["baseline"], row["outcome"]) == ("ntkmtl", "equal", "success")
    ]
    assert one["verdict"] == "better"
    page = (tmp_path / "report.md").read_text()
    assert "Differences from equal" in page
    assert "beyond 0.1" in page
    assert f"{float(one['difference']):+.3f} [" in page


def test_each_pair_is_compared_both_ways(out: Path) -> None:
    pairs = {
        (row["method"], row["over"]): float(row["probability"])
        for row in rows(out / "improvement.csv")
    }
    assert len(pairs) == 4 * 3
    assert all(p + pairs[b, a] == pytest.approx(1) for (a, b), p in pairs.items())
    assert pairs["ntkmtl", "equal"] > 0.9


def test_an_incomplete_run_is_listed_and_in_no_number(out: Path) -> None:
    listed = {Path(row["run"]).name: row for row in rows(out / "runs.csv")}
    assert (listed["stopped"]["complete"], listed["stopped"]["success"]) == ("False", "1")
    assert sum(row["complete"] == "True" for row in listed.values()) == 12
    assert by_method(out / "methods.csv")["equal"]["runs"] == "3"
    assert {row["seed"] for row in rows(out / "scores.csv")} == {"1", "2", "3"}
    markdown = (out / "report.md").read_text()
    assert "left out of all numbers: 1 of 13 runs." in markdown
    assert re.search(r"stopped \| 500 of 1,000 \| 1\.00 \|", markdown)


def test_the_page_holds_its_pictures_and_all_tables(out: Path) -> None:
    page = (out / "index.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(pictures) == page.count("<img") == len(PICTURES)
    for picture in pictures:
        assert ElementTree.fromstring(base64.b64decode(picture)).tag.endswith("}svg")
    assert "http" not in page
    for title in ("Success rate", "Probability of improvement", "Incomplete runs", "Protocol"):
        assert re.search(f'<h2 id="section-[0-9]+">{title}</h2>', page)
    for picture in PICTURES:
        assert f"]({picture}.png)" in (out / "report.md").read_text()
    success = by_method(out / "methods.csv")["ntkmtl"]
    cell = f"{float(success['success']):.2f} ± {float(success['success_error']):.2f}"
    assert cell in page
    assert cell.replace("±", r"$\pm$") in (out / "table.tex").read_text()


def test_the_first_table_is_printed(out: Path, printed: list[str]) -> None:
    assert printed[-1] == str(out / "index.html")
    assert [line.split()[0] for line in printed if re.search(r"\[0|\[1", line)] == [
        row["method"] for row in rows(out / "methods.csv")
    ]


def test_the_latex_table_is_that_of_the_paper(out: Path) -> None:
    table = (out / "table.tex").read_text(encoding="utf-8")
    assert r"\caption{Results on 3 tasks across 3 random seeds, last evaluation.}" in table
    assert r"Method & Success rate (mean $\pm$ stderr) \\" in table
    assert table.count(r" \\") == 5  # the heading and four methods
    assert "[" not in table
    assert "IQM" in (out / "aggregates.tex").read_text(encoding="utf-8")


def test_one_run_of_one_method_is_a_report_without_intervals(runs: Path, tmp_path: Path) -> None:
    lines = report(runs / "equal-seed1", out=tmp_path)
    assert "One run only, so without error or interval: equal." in lines
    row = by_method(tmp_path / "methods.csv")["equal"]
    assert (row["success_error"], row["iqm_low"], row["mean_rank"]) == ("", "", "")
    assert not (tmp_path / "improvement.csv").exists()
    assert "±" not in (tmp_path / "report.md").read_text()
    assert "nan" not in (tmp_path / "index.html").read_text().split("base64")[0]


def test_an_output_that_is_no_folder_is_the_users_mistake(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file: .*; choose another --out"):
        report(runs / "equal-seed1", out=tmp_path / "file")
