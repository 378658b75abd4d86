"""Success on unseen goals: which evaluations count, and what a report makes of them."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mtrl_ntk.experiment.config import read
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.report import report_runs
from mtrl_ntk.experiment.reports.unseen import find_unseen
from tests.experiment.run_folders import TOTAL, make_config, write_run_folder, write_unseen
from tests.saved import save_run

RATES = [0.5, 1.0, 0.0]


def write_run(path: Path, method: str = "equal", seed: int = 1, **settings: object) -> Path:
    config = make_config(method=method, seed=seed, **settings)
    return write_run_folder(path, config, {TOTAL: [0.9, 0.9, 0.9]})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "run")


def found_in(run: Path, end: int = TOTAL) -> list[float] | None:
    unseen = find_unseen(run, read(run / "config.yaml"), end)
    return None if unseen is None else unseen.success.tolist()


def test_the_newest_evaluation_counts(run: Path) -> None:
    assert found_in(run) is None
    write_unseen(run, RATES)
    assert found_in(run) == RATES
    write_unseen(run, [1, 1, 1], "20260102-120000")
    write_unseen(run, [0, 0, 0], "20251231-120000")
    assert found_in(run) == [1, 1, 1]


def test_the_end_of_a_run_may_be_before_its_last_step(run: Path) -> None:
    file = write_unseen(run, RATES)
    result = json.loads(file.read_text())
    file.write_text(json.dumps(result | {"agent": {**result["agent"], "vector_steps": 500}}))
    assert (found_in(run), found_in(run, 500)) == (None, RATES)


@pytest.mark.parametrize(
    "asked",
    [
        {"goals": "training"},
        {"sampled": True},
        {"seed": 3},
        {"evaluation_episodes": 10},
        {"tasks": ("push-v3", "reach-v3", "door-open-v3")},
    ],
)
def test_an_evaluation_of_another_kind_does_not(run: Path, asked: dict[str, Any]) -> None:
    write_unseen(run, RATES)
    write_unseen(run, [1, 1, 1], "20260102-120000", **asked)
    assert found_in(run) == RATES


@pytest.mark.parametrize(
    "change",
    [
        {"agent": {"vector_steps": TOTAL - 1}},
        {"agent": None},
        {"protocol": {}},
        {"protocol": [1]},
        {"tasks": []},
        {"tasks": 3},
        {"tasks": [{"task": "reach-v3", "success_rate": 1}]},
        {"tasks": [{"task": name, "success_rate": 2} for name in make_config().env.task_names]},
        {"tasks": [{"task": name, "success_rate": "x"} for name in make_config().env.task_names]},
    ],
)
def test_what_is_damaged_or_of_another_step_does_not(run: Path, change: dict[str, Any]) -> None:
    file = write_unseen(run, RATES)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert found_in(run) is None


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "null"])
def test_what_is_no_result_does_not(run: Path, text: str) -> None:
    write_unseen(run, RATES).write_text(text)
    assert found_in(run) is None


def test_who_evaluates_later_may_have_updated_the_environments(run: Path) -> None:
    file = write_unseen(run, RATES)
    content = json.loads(file.read_text())
    content["protocol"]["environment"] = "Meta-World V3, another version"
    file.write_text(json.dumps(content))
    assert found_in(run) == RATES


def report(runs: Path, *, evaluate: bool = False) -> tuple[list[str], Path]:
    console, out = Console(file=StringIO(), width=200), runs.parent / "report"
    report_runs([runs], ReportOptions(resamples=10, out=out, evaluate=evaluate), console=console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines(), out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("undrawn")
def test_a_report_shows_them_beside_the_goals_of_training(tmp_path: Path) -> None:
    for seed, rates in enumerate(([0.5, 0.5, 0.5], [0.7, 0.7, 0.7]), 1):
        write_unseen(write_run(tmp_path / "runs" / f"equal{seed}", seed=seed), rates)
    write_run(tmp_path / "runs" / "ntkmtl", "ntkmtl")
    lines, out = report(tmp_path / "runs")
    assert "Not evaluated on unseen goals, which report_mt10 --evaluate does: 1 run." in lines
    page, markdown = (out / "index.html").read_text(), (out / "report.md").read_text()
    assert "<td>0.90 ± 0.00</td><td>0.60 ± 0.10</td>" in page
    assert "| equal | 0.90 ± 0.00 | 0.60 ± 0.10 | -0.30 |" in markdown
    assert re.search(r"\| reach-v3 \| (– \| )?0\.60 ± 0\.10 \|", markdown)
    table = (out / "table.tex").read_text()
    assert r"equal & 0.90 $\pm$ 0.00 & 0.60 $\pm$ 0.10 \\" in table
    assert r"ntkmtl & 0.90 & -- \\" in table
    methods = {row["method"]: row for row in rows(out / "methods.csv")}
    assert float(methods["equal"]["unseen"]) == pytest.approx(0.6)
    assert (methods["ntkmtl"]["unseen"], methods["ntkmtl"]["unseen_error"]) == ("", "")
    unseen = {Path(row["run"]).name: row["unseen"] for row in rows(out / "runs.csv")}
    assert unseen == {"equal1": "0.5", "equal2": "0.7", "ntkmtl": ""}
    assert {row["unseen"] for row in rows(out / "scores.csv")} == {"0.5", "0.7", ""}


@pytest.mark.usefixtures("undrawn")
def test_without_any_nothing_is_said_of_them(run: Path) -> None:
    lines, out = report(run.parent)
    assert not [line for line in lines if "unseen" in line]
    assert "unseen goals" not in (out / "table.tex").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_evaluate_makes_what_is_missing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    small: dict[str, Any] = {"horizon": 10, "width": 16, "depth": 2, "policy_tau": 0.5}
    save_run(runs / "a", make_config(**small), TOTAL)
    (runs / "a").rename(tmp_path / "saved")
    write_run(runs / "a", **small)
    (tmp_path / "saved" / "checkpoint").rename(runs / "a" / "checkpoint")
    write_run(runs / "b", "ntkmtl", **small)
    write_run_folder(runs / "stopped", make_config(seed=2, **small), {500: RATES})
    for _ in range(2):
        lines, _ = report(runs, evaluate=True)
        assert len(list((runs / "a" / "evaluations").iterdir())) == 1
        # There is nothing to evaluate any more.
        assert any(f"Not evaluated on unseen goals: {runs / 'b'}: " in line for line in lines)
        assert not [line for line in lines if "stopped" in line and "unseen" in line]
    assert found_in(runs / "a") is not None
