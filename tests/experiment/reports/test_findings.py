"""Which runs a report takes, what it refuses, and what it says about those that it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.files.csv_files import Row
from mtrl_ntk.experiment.reports.findings import Findings, find
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.rows import method_rows
from mtrl_ntk.rl.envs import task_names
from tests.experiment.run_folders import (
    TASKS,
    TOTAL,
    make_config,
    write_methods,
    write_run_folder,
)

LEVELS = {"equal": 0.5, "ntkmtl": 0.9, "pcgrad": 0.7}


def found(*folders: Path, **options: object) -> Findings:
    return find(folders, ReportOptions(**{"resamples": 100, **options}))  # type: ignore[arg-type]


def by_method(findings: Findings) -> dict[str, Row]:
    rows = method_rows(findings.summaries, findings.comparison)
    return {str(row["method"]): row for row in rows}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of three methods, and one of a method that was stopped before its end."""
    folder = write_methods(tmp_path_factory.mktemp("runs"), LEVELS)
    write_run_folder(folder / "stopped", make_config(method="equal", seed=9), {500: [1.0] * 3})
    return folder


def test_methods_stand_from_the_best_to_the_worst(runs: Path) -> None:
    assert [method.name for method in found(runs).methods] == ["ntkmtl", "pcgrad", "equal"]


def test_other_resampling_changes_intervals_only(runs: Path) -> None:
    by_task, whole = (by_method(found(runs, resample=way)) for way in ("tasks", "runs"))
    for name, row in by_task.items():
        changed = {key for key in row if str(row[key]) != str(whole[name][key])}
        assert changed
        assert all(key.endswith(("_low", "_high")) for key in changed)


def test_only_the_chosen_methods_are_reported(runs: Path) -> None:
    findings = found(runs, methods=("equal", "ntkmtl"))
    assert [method.name for method in findings.methods] == ["ntkmtl", "equal"]
    assert len(findings.incomplete) == 1
    assert found(runs, methods=("pcgrad",)).incomplete == []
    with pytest.raises(UserError, match=r"no run of a method 'pcgrd'; did you mean pcgrad\?"):
        found(runs, methods=("pcgrd",))


def test_runs_of_other_protocols_are_refused_unless_forced(runs: Path, tmp_path: Path) -> None:
    curve = {500: [0.5] * 2, TOTAL: [0.5] * 2}
    config = make_config(method="equal", tasks=list(TASKS[:2]), horizon=150)
    other = write_run_folder(tmp_path / "other", config, curve)
    said = (
        r"differ in protocol .* add --force: horizon is 500 in .* and 8 more, but 150 in .*other "
        r"\| tasks is 3: .* \| environment steps in all is 3,000 in"
    )
    with pytest.raises(UserError, match=said):
        found(runs, other)
    findings = found(runs, other, force=True)
    forced = [line for line in findings.warnings if line.startswith("Not comparable, forced")]
    assert len(forced) == 3
    names = [method.name for method in findings.methods]
    assert len(names) == 4
    assert sum(name.startswith("equal, ") and "150" in name for name in names) == 1


def test_runs_of_other_lengths_are_compared_over_what_they_share(
    runs: Path, tmp_path: Path
) -> None:
    config = make_config(method="cagrad", total_steps=500)
    other = write_run_folder(tmp_path / "other", config, {250: [0.5] * 3, 500: [0.75] * 3})
    with pytest.raises(UserError, match="environment steps in all"):
        found(runs, other)
    findings = found(runs, other, until=500)
    assert not findings.unlike
    assert {run.reached for run in findings.complete} == {500}
    assert len(findings.complete) == 11  # with the one that was stopped there


def test_runs_of_a_method_that_is_left_out_do_not_matter(runs: Path, tmp_path: Path) -> None:
    config = make_config(method="cagrad", horizon=150)
    other = write_run_folder(tmp_path / "other", config, {TOTAL: [0.5] * 3})
    assert len(found(runs, other, methods=("equal", "pcgrad")).methods) == 2


def test_two_runs_of_one_seed_are_refused_unless_forced(runs: Path, tmp_path: Path) -> None:
    again = write_run_folder(tmp_path / "again", make_config(method="ntkmtl"), {TOTAL: [0.5] * 3})
    with pytest.raises(UserError, match=r"seed 1 of ntkmtl: .*ntkmtl-seed1, .*again"):
        found(runs, again)
    warnings = found(runs, again, force=True).warnings
    assert any("Counted as independent although they share a seed" in line for line in warnings)


def test_tasks_without_success_of_the_single_task_runs_are_left_out(tmp_path: Path) -> None:
    for name, final in {"equal": [0.5, 0.5, 0.5], "STL": [1.0, 0.0, 0.25]}.items():
        network = "independent" if name == "STL" else "shared"
        config = make_config(method="equal", network=network)
        write_run_folder(tmp_path / name, config, {TOTAL: final})
    findings = found(tmp_path)
    assert by_method(findings)["equal"]["delta_m_percent"] == pytest.approx((50 - 100) / 2)
    assert findings.comparison.left_out == ("drawer-close-v3",)


def test_without_a_complete_run_there_is_no_report(runs: Path) -> None:
    with pytest.raises(UserError, match="of 1 run none is complete; train_mt10 --resume"):
        found(runs / "stopped")


def test_published_numbers_stand_beside_runs_of_their_tasks_only(
    runs: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"of the tasks of MT10, .*leave --anchors out, or add"):
        found(runs, anchors=("table4",))
    forced = found(runs, anchors=("table4",), force=True)
    assert "The published numbers are of other tasks than these runs." in forced.warnings
    config = make_config(tasks=list(task_names("MT10")))
    write_run_folder(tmp_path / "all", config, {TOTAL: [0.5] * 10})
    assert [one.key for one in found(tmp_path, anchors=("table4",)).anchors] == ["table4"]


@pytest.mark.parametrize("name", ["last", "resamples"])
def test_counts_begin_at_one(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0; it must be at least 1"):
        ReportOptions(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [("success", "mode"), ()])
def test_metrics_that_there_are_not_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="it must be some of success, iqm, median, gap, delta_m"):
        ReportOptions(metrics=names)
