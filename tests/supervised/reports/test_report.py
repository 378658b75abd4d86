"""Reports on supervised runs: their numbers, what they refuse, and what they leave."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtrl_ntk.cli import report_mt10
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.supervised.reports.report import (
    are_supervised,
    find,
    metrics_table,
    overall_table,
    report_supervised,
)
from tests.experiment.run_folders import write_methods
from tests.supervised.reports.made import LEVELS, made_config, write_all, write_run

FACTORS = {"equal": 1.2, "ntkmtl_sr": 1.1}
MEASURES = 4
OPTIONS = ReportOptions(resamples=50)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("runs"), FACTORS)


@pytest.fixture(scope="module")
def out(runs: Path) -> Path:
    folder = runs.parent / "report"
    report_supervised([runs], ReportOptions(out=folder, resamples=50))
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def finals(runs: Path, method: str) -> dict[tuple[str, str], float]:
    """Mean over seeds of the last rows of the runs' own files, by task and metric."""
    found: dict[tuple[str, str], list[float]] = {}
    for folder in sorted(runs.iterdir()):
        name = folder.name.rpartition("-seed")[0]
        if name != method and not (method == "STL" and name in LEVELS):
            continue
        rows = table(folder / "evaluation.csv")
        for row in [row for row in rows if row["epochs"] == "3"]:
            for metric in set(LEVELS[row["task"]]) - {"loss"}:
                found.setdefault((row["task"], metric), []).append(float(row[metric]))
    return {key: float(np.mean(values)) for key, values in found.items()}


def test_drops_and_ranks_are_those_of_the_paper(runs: Path, out: Path) -> None:
    rows = {row["method"]: row for row in table(out / "methods.csv")}
    assert [*rows] == ["STL", "equal", "ntkmtl_sr"] or [*rows] == ["STL", "ntkmtl_sr", "equal"]
    base = finals(runs, "STL")
    assert len(base) == MEASURES
    for method in FACTORS:
        ours = finals(runs, method)
        changes = [
            (-1 if metric == "accuracy" else 1) * (ours[key] - base[key]) / base[key]
            for key in base
            for metric in [key[1]]
        ]
        expected = 100 * sum(changes) / MEASURES
        assert float(rows[method]["delta_m_percent"]) == pytest.approx(expected, rel=1e-6)
        assert float(rows[method]["delta_m_low"]) <= expected <= float(rows[method]["delta_m_high"])
    equal, ours = finals(runs, "equal"), finals(runs, "ntkmtl_sr")
    better = [(ours[key] > equal[key]) == (key[1] == "accuracy") for key in base]
    mean_rank = 1 + (MEASURES - sum(better)) / MEASURES
    assert float(rows["ntkmtl_sr"]["mean_rank"]) == pytest.approx(mean_rank)
    assert rows["STL"]["mean_rank"] == rows["STL"]["delta_m_percent"] == ""


def test_metrics_are_means_over_seeds_with_directions(runs: Path, out: Path) -> None:
    for row in table(out / "metrics.csv"):
        expected = finals(runs, row["method"])[row["task"], row["metric"]]
        assert float(row["mean"]) == pytest.approx(expected, rel=1e-6)
        assert (row["better"] == "higher") == (row["metric"] == "accuracy")
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    text = (out / "report.md").read_text()
    assert "left: Accuracy [%] ↑" in text
    assert "sum: MAE ↓" in text


def test_the_time_of_an_epoch_is_that_of_its_updates(out: Path) -> None:
    seconds = {row["method"]: float(row["epoch_seconds"]) for row in table(out / "methods.csv")}
    assert seconds == {"STL": 4 * 0.5, "equal": 0.5, "ntkmtl_sr": 0.5}


def test_a_report_is_a_page_with_pictures_and_tables(out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {
        *("index.html", "report.md", "table.tex"),
        *("methods.csv", "metrics.csv", "scores.csv", "curves.csv", "traces.csv"),
        *(
            f"{name}.{end}"
            for name in ("metrics", "losses", "weights", "ntk")
            for end in ("png", "svg")
        ),
    }
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    page = (out / "index.html").read_text()
    assert all(title in page for title in ("Overall", "Metrics", "Task weights", "Protocol"))
    assert r"\begin{tabular}" in (out / "table.tex").read_text()


def test_tasks_of_which_there_is_no_run_alone_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "together", made_config(method="equal"), 1.2)
    write_run(tmp_path / "left", made_config(method="equal", tasks="left"))
    findings = find([tmp_path], OPTIONS)
    assert any("Δm is without reconstruction, right, sum" in line for line in findings.warnings)
    (drop,) = [one.drop.value for one in findings.summaries if not one.method.is_single_task]
    assert drop == pytest.approx(-20, abs=3)


def test_without_tasks_alone_there_are_ranks_only(tmp_path: Path) -> None:
    for method, factor in FACTORS.items():
        write_run(tmp_path / method, made_config(method=method), factor)
    findings = find([tmp_path], OPTIONS)
    assert overall_table(findings).columns == ["method", "runs", "MR ↓"]
    assert len(metrics_table(findings).columns) == 1 + MEASURES + 1


def test_incomplete_runs_are_in_no_number(tmp_path: Path) -> None:
    write_run(tmp_path / "whole", made_config(method="equal"))
    write_run(tmp_path / "half", made_config(method="dwa"), epochs=2)
    findings = find([tmp_path], OPTIONS)
    assert [method.name for method in findings.methods] == ["equal"]
    assert any("Incomplete and left out" in line for line in findings.warnings)
    with pytest.raises(UserError, match="none is complete; train_supervised --resume"):
        find([tmp_path / "half"], OPTIONS)


def test_other_protocols_and_repeated_seeds_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "one", made_config(method="equal"))
    write_run(tmp_path / "same", made_config(method="equal"))
    with pytest.raises(UserError, match="several runs of one seed"):
        find([tmp_path], OPTIONS)
    write_run(tmp_path / "wide" / "run", made_config(method="dwa", width=32))
    with pytest.raises(UserError, match=r"differ in protocol .* width is"):
        find([tmp_path / "one", tmp_path / "wide"], OPTIONS)
    forced = ReportOptions(force=True, resamples=50)
    assert find([tmp_path / "one", tmp_path / "wide"], forced).warnings


@pytest.mark.parametrize(
    "change",
    [
        {"decimals": 10**9},
        {"decimals": "2"},
        {"decimals": -1},
        {"title": ["x"]},
        {"higher_is_better": "yes"},
        {"more": 1},
    ],
)
def test_hostile_metrics_of_a_file_are_one_line(tmp_path: Path, change: dict[str, object]) -> None:
    path = write_run(tmp_path / "run", made_config(method="equal", tasks="left")) / "run.json"
    info = json.loads(path.read_text())
    info["metrics"]["left"][0] |= change
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match="is damaged") as error:
        find([tmp_path], OPTIONS)
    assert "\n" not in str(error.value)


def test_a_task_alone_twice_is_a_repeated_seed(tmp_path: Path) -> None:
    for name in ("one", "same"):
        write_run(tmp_path / name, made_config(method="equal", tasks="left"))
    with pytest.raises(UserError, match="seed 1 of STL"):
        find([tmp_path], OPTIONS)


@pytest.mark.parametrize("options", [{"anchors": ("all",)}, {"evaluate": True}, {"last": 3}])
def test_options_for_agents_are_refused(runs: Path, options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(options))} is no option for supervised runs"):
        find([runs], ReportOptions(**options))  # type: ignore[arg-type]


def test_methods_are_compared_seed_by_seed_by_every_metric(tmp_path: Path) -> None:
    runs = write_all(tmp_path / "runs", FACTORS, seeds=(1, 2, 3))
    options = ReportOptions(out=tmp_path / "out", against=("equal", "STL"), resamples=50)
    report_supervised([runs], options)
    found = {
        (row["baseline"], row["method"], row["outcome"]): row
        for row in table(tmp_path / "out" / "contrasts.csv")
    }
    assert len(found) == 2 * 2 * MEASURES + 1  # and delta-m, which single-task runs have not
    ours, equal = finals(runs, "ntkmtl_sr"), finals(runs, "equal")
    for (task, metric), value in ours.items():
        row = found["equal", "ntkmtl_sr", f"{task}/{metric}"]
        difference = value - equal[task, metric]
        assert float(row["difference"]) == pytest.approx(difference, abs=1e-6)
        assert float(row["margin"]) == pytest.approx(0.05 * equal[task, metric])
        is_better = (difference > 0) == (metric == "accuracy")
        assert row["verdict"] in (("better" if is_better else "worse"), "not shown")
    drops = {
        r["method"]: float(r["delta_m_percent"] or 0)
        for r in table(tmp_path / "out" / "methods.csv")
    }
    row = found["equal", "ntkmtl_sr", "delta_m_percent"]
    assert float(row["difference"]) == pytest.approx(drops["ntkmtl_sr"] - drops["equal"])
    assert (float(row["margin"]), int(row["seeds"])) == (5.0, 3)
    assert "Differences from STL" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(UserError, match="there is no method 'moco' in the report"):
        find([runs], ReportOptions(against=("moco",)))


def test_a_method_that_has_diverged_comes_last_and_spoils_no_other(tmp_path: Path) -> None:
    factors = {**FACTORS, "dwa": float("nan")}
    runs = write_all(tmp_path / "runs", factors, seeds=(1,))
    options = ReportOptions(out=tmp_path / "out", against=("equal",), resamples=20)
    report_supervised([runs], options)
    found = find([runs], options)
    ranks = {one.method.name: one.rank for one in found.summaries}
    assert ranks["dwa"] == 3
    assert ranks["equal"] + ranks["ntkmtl_sr"] == pytest.approx(3)
    drops = {one.method.name: one.drop.value for one in found.summaries}
    assert np.isnan(drops["dwa"])
    assert np.isfinite([drops[name] for name in FACTORS]).all()
    assert "dwa" not in {contrast.method for contrast in found.contrasts}


def test_methods_of_unlike_tasks_are_ranked_by_what_all_have(tmp_path: Path) -> None:
    write_run(tmp_path / "two", made_config(method="equal", tasks="sum,reconstruction"), 1.1)
    write_run(tmp_path / "all", made_config(method="dwa"))
    found = find([tmp_path], OPTIONS)
    assert {one.method.name: one.rank for one in found.summaries} == {"dwa": 1, "equal": 2}
    assert any("unlike sets of tasks" in line for line in found.warnings)


def test_evaluations_without_their_time_are_damaged(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", made_config(method="equal", tasks="left"))
    (path / "evaluation.csv").write_text("updates,epochs,task,loss,accuracy\n15,3,left,1,1\n")
    with pytest.raises(UserError, match="is damaged"):
        find([tmp_path], OPTIONS)


def test_some_of_the_methods_can_be_asked_for(runs: Path) -> None:
    findings = find([runs], ReportOptions(methods=("STL", "equal"), resamples=50))
    assert [method.name for method in findings.methods] == ["STL", "equal"]
    with pytest.raises(UserError, match="no run of a method 'moco'"):
        find([runs], ReportOptions(methods=("moco",)))


def test_kinds_of_runs_are_told_apart_and_not_mixed(runs: Path, tmp_path: Path) -> None:
    reinforced = write_methods(tmp_path / "rl", {"equal": 0.5}, seeds=(1,))
    assert are_supervised([runs])
    assert not are_supervised([reinforced])
    with pytest.raises(UserError, match="they do not belong in one table"):
        are_supervised([runs, reinforced])


def test_the_command_reports_both(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["report_mt10", str(runs), "--out", str(tmp_path / "out"), "--resamples", "20"]
    monkeypatch.setattr(sys, "argv", argv)
    report_mt10()
    assert "Δm %" in capsys.readouterr().out
    assert (tmp_path / "out" / "index.html").exists()
