"""A report's numbers, found again from the runs' CSV files by a program of its own.

Nothing here uses the report's statistics: plain numpy and csv, loops where the report has arrays,
and SciPy where it has the same.
"""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, stats

from mtrl_ntk.experiment.files.csv_files import Row
from mtrl_ntk.experiment.reports.findings import find
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.rows import (
    curve_rows,
    improvement_rows,
    method_rows,
    run_curve_rows,
    task_curve_rows,
    task_rows,
    write_csv,
)
from tests.experiment.run_folders import TASKS, TOTAL, make_config, write_methods, write_run_folder

METHODS = ("equal", "ntkmtl", "pcgrad", "STL")
LEVELS = dict(zip(METHODS, (0.5, 0.9, 0.7, 0.8), strict=True))
SEEDS = (1, 2, 3, 4)
LAST = 2
Success = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs of four methods, and one that was stopped before its end."""
    folder = write_methods(tmp_path_factory.mktemp("runs"), LEVELS, SEEDS)
    write_run_folder(folder / "stopped", make_config(method="equal", seed=9), {500: [1.0] * 3})
    return folder


@pytest.fixture(scope="module")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CSV files of a report on them."""
    findings = find([runs], ReportOptions(last=LAST))
    summaries, comparison = findings.summaries, findings.comparison
    folder = tmp_path_factory.mktemp("report")
    files: dict[str, list[Row]] = {
        "methods": list(method_rows(summaries, comparison)),
        "tasks": list(task_rows(summaries)),
        "curves": list(curve_rows(findings.methods)),
        "task_curves": list(task_curve_rows(findings.methods)),
        "improvement": list(improvement_rows(summaries, comparison)),
        "run_curves": list(run_curve_rows(findings.methods)),
    }
    for name, rows in files.items():
        write_csv(folder / f"{name}.csv", rows)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def success(runs: Path) -> dict[str, Success]:
    """Success ``[runs, evaluations, tasks]`` by method."""
    return {
        name: np.array(
            [
                [
                    [
                        float(row["success_rate"])
                        for row in read(runs / f"{name}-seed{seed}" / "evaluation.csv")
                        if row["task"] == task
                    ]
                    for task in TASKS
                ]
                for seed in SEEDS
            ]
        ).swapaxes(1, 2)
        for name in METHODS
    }


def numbers_of(report: Path, name: str) -> dict[str, float]:
    (row,) = (row for row in read(report / "methods.csv") if row["method"] == name)
    return {key: float(value) for key, value in row.items() if key != "method" and value}


UPDATES, SECONDS = (0, 150, 400, 650, 900), (0, 12.5, 25, 37.5, 50)


def area(curve: Success, points: tuple[float, ...]) -> float:
    """Mean height of a curve that begins at zero."""
    return float(integrate.trapezoid([0, *curve], points) / points[-1])


@pytest.mark.parametrize("name", METHODS)
def test_aggregates(report: Path, success: dict[str, Success], name: str) -> None:
    curves, final = success[name].mean(2), success[name][:, -1]
    maxima = curves.max(1)
    expected = {
        "runs": len(SEEDS),
        "success": final.mean(),
        "success_error": stats.sem(final.mean(1)),
        "mean": final.mean(),
        "iqm": stats.trim_mean(final.ravel(), 0.25),
        "median": np.median([final[:, task].mean() for task in range(len(TASKS))]),
        "gap": 1 - final.mean(),
        "last": curves[:, -LAST:].mean(),
        "last_error": stats.sem(curves[:, -LAST:].mean(1)),
        "max_of_mean": curves.mean(0).max(),
        "mean_of_max": maxima.mean(),
        "mean_of_max_error": stats.sem(maxima),
        "area_updates": np.mean([area(curve, UPDATES) for curve in curves]),
        "area_updates_error": stats.sem([area(curve, UPDATES) for curve in curves]),
        "area_seconds": np.mean([area(curve, SECONDS) for curve in curves]),
        "updates_per_second": 20,
        "env_steps_per_second": 60,
        "hours": TOTAL / 20 / 3600,
    }
    found = numbers_of(report, name)
    assert {key: found[key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("name", "threshold"), list(product(METHODS, (0.5, 0.8, 0.9))))
def test_steps_to_success(
    report: Path, success: dict[str, Success], name: str, threshold: float
) -> None:
    steps = [3 * step for step in (250, 500, 750, 1000)]
    first = []
    for curve in success[name].mean(2):
        reached = [step for step, value in zip(steps, curve, strict=True) if value >= threshold]
        first.append(reached[0] if reached else np.inf)
    found = numbers_of(report, name)
    assert found[f"reached_{threshold}"] == np.isfinite(first).sum()
    median = sorted(first)[2]  # of four, the later of the middle two
    assert found.get(f"steps_to_{threshold}", np.inf) == median


@pytest.mark.parametrize("name", METHODS)
def test_intervals_are_those_of_a_slow_stratified_bootstrap(
    report: Path, success: dict[str, Success], name: str
) -> None:
    final, generator = success[name][:, -1], np.random.default_rng(11)
    drawn = []
    for _ in range(4000):
        columns = [generator.choice(column, size=len(column)) for column in final.T]
        flat = np.sort(np.concatenate(columns))
        drawn.append(
            [
                flat[3:9].mean(),  # the middle half of twelve
                np.median([column.mean() for column in columns]),
                1 - flat.mean(),
            ]
        )
    found = numbers_of(report, name)
    for metric, values in zip(("iqm", "median", "gap"), np.array(drawn).T, strict=True):
        low, high = np.percentile(values, [2.5, 97.5])
        ends = found[f"{metric}_low"], found[f"{metric}_high"]
        assert ends == pytest.approx((low, high), abs=0.01), metric


def test_intervals_of_tasks_are_those_of_scipy(report: Path, success: dict[str, Success]) -> None:
    rows = {(row["method"], row["task"]): row for row in read(report / "tasks.csv")}
    assert len(rows) == len(METHODS) * len(TASKS)
    for name, (place, task) in product(METHODS, enumerate(TASKS)):
        values, row = success[name][:, -1, place], rows[name, task]
        assert float(row["success"]) == pytest.approx(values.mean())
        assert float(row["error"]) == pytest.approx(stats.sem(values))
        interval = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=5000,
            method="percentile",
            random_state=np.random.default_rng(3),
        ).confidence_interval
        ends = float(row["low"]), float(row["high"])
        assert ends == pytest.approx((interval.low, interval.high), abs=0.02)


def test_learning_curves(report: Path, success: dict[str, Success]) -> None:
    for name in METHODS:
        rows = [row for row in read(report / "curves.csv") if row["method"] == name]
        curves = success[name].mean(2)
        assert [int(row["env_steps"]) for row in rows] == [750, 1500, 2250, 3000]
        assert [float(row["success"]) for row in rows] == pytest.approx(list(curves.mean(0)))
        assert [float(row["error"]) for row in rows] == pytest.approx(list(stats.sem(curves)))


def test_learning_curves_by_task(report: Path, success: dict[str, Success]) -> None:
    found = read(report / "task_curves.csv")
    for name, (place, task) in product(METHODS, enumerate(TASKS)):
        rows = [row for row in found if (row["method"], row["task"]) == (name, task)]
        curves = success[name][:, :, place]
        assert [int(row["env_steps"]) for row in rows] == [750, 1500, 2250, 3000]
        assert [float(row["success"]) for row in rows] == pytest.approx(list(curves.mean(0)))
        assert [float(row["error"]) for row in rows] == pytest.approx(list(stats.sem(curves)))


def test_probability_of_improvement(report: Path, success: dict[str, Success]) -> None:
    rows = read(report / "improvement.csv")
    assert len(rows) == len(METHODS) * (len(METHODS) - 1)
    for row in rows:
        ours, theirs = (success[row[key]][:, -1] for key in ("method", "over"))
        pairs = [
            (a > b) + 0.5 * (a == b)
            for task in range(len(TASKS))
            for a, b in product(ours[:, task], theirs[:, task])
        ]
        assert float(row["probability"]) == pytest.approx(np.mean(pairs))
        assert float(row["low"]) <= float(row["probability"]) <= float(row["high"])


def test_the_curve_of_each_run(report: Path, success: dict[str, Success]) -> None:
    rows = read(report / "run_curves.csv")
    for name, values in success.items():
        of_method = [row for row in rows if row["method"] == name]
        found = np.array([[float(row[task]) for task in TASKS] for row in of_method])
        assert found.reshape(values.shape) == pytest.approx(values)


def test_delta_m_and_mean_rank_are_those_of_the_paper(
    report: Path, success: dict[str, Success]
) -> None:
    rates = {name: values[:, -1].mean(0) for name, values in success.items()}
    ranks = stats.rankdata([-rates[name] for name in METHODS], axis=0).mean(1)
    for name, rank in zip(METHODS, ranks, strict=True):
        # (-1)^delta (M_m - M_b) / M_b with delta = 1, as more success is better.
        terms = [-(ours - stl) / stl for ours, stl in zip(rates[name], rates["STL"], strict=True)]
        found = numbers_of(report, name)
        assert found["delta_m_percent"] == pytest.approx(100 * sum(terms) / len(terms), abs=1e-6)
        assert found["mean_rank"] == pytest.approx(rank)
