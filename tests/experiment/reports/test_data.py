"""Runs of a report: which are found, how they are read, and which belong together."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import SHARED, defaults
from mtrl_ntk.experiment.files.layout import RUN_INFO
from mtrl_ntk.experiment.options.fields import leaves, options, updated
from mtrl_ntk.experiment.reports.data import (
    Run,
    differences,
    find_runs,
    group_runs,
    read_run,
    repeated_seeds,
    with_returns_as_shares,
)
from mtrl_ntk.experiment.types import NO_SUCCESS
from tests.experiment.examples import example
from tests.experiment.run_folders import TOTAL, make_config, write_run_folder

CURVE = {500: [0.2, 0.4, 0.0], TOTAL: [0.5, 1.0, 0.25]}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run_folder(tmp_path_factory.mktemp("runs") / "run", make_config(), CURVE)


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A complete run that a test may damage."""
    return Path(shutil.copytree(template, tmp_path / "run"))


def changed(run: Run, **settings: object) -> Run:
    """A run with other settings."""
    return replace(run, config=make_config(**settings))


def test_runs_are_found_at_any_depth_and_once(folder: Path, tmp_path: Path) -> None:
    inner = Path(shutil.copytree(folder, tmp_path / "sweep" / "a" / "b"))
    (folder / "evaluations").mkdir()
    shutil.copy(folder / "evaluation.csv", folder / "evaluations")  # of evaluate_mt10: no run
    assert find_runs([tmp_path, folder, inner / ".." / "b"], print) == [folder, inner]


def test_runs_behind_links_are_found_and_loops_end(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere / "one")
    shutil.copytree(folder, elsewhere / "two")
    runs = tmp_path / "runs"
    (runs / "deep").mkdir(parents=True)
    (runs / "deep" / "linked").symlink_to(elsewhere / "one")
    (runs / "all").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(runs)
    (elsewhere / "one" / "itself").symlink_to(elsewhere / "one")
    said: list[str] = []
    found = find_runs([runs], said.append)
    assert sorted(path.resolve().name for path in found) == ["one", "two"]
    assert said == []
    (tmp_path / "link").symlink_to(runs)
    assert len(find_runs([tmp_path / "link"], said.append)) == 2


def test_what_is_left_out_is_said(folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (damaged / "run.json").unlink()
    (tmp_path / "lost").symlink_to(tmp_path / "moved")
    said: list[str] = []
    assert find_runs([tmp_path], said.append) == [folder]
    assert sorted(said) == [
        f"Left out: {damaged}, which has no run.json.",
        f"Left out: {tmp_path / 'lost'}, which leads nowhere.",
    ]


def test_a_folder_that_cannot_be_read_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def forbid(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    (folder / "secret").mkdir()
    monkeypatch.setattr(os, "scandir", forbid)
    said: list[str] = []
    assert find_runs([folder], said.append) == [folder]
    reason = "which cannot be read: Permission denied"
    assert said == [f"Left out: {folder / 'secret'}, {reason}."]


def test_a_folder_without_runs_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*none; give folders"):
        find_runs([folder, tmp_path / "none"], print)
    (folder / "run.json").unlink()
    with pytest.raises(UserError, match=r"run holds no run: nowhere .* config\.yaml, run\.json"):
        find_runs([folder], print)


def test_a_run_is_read_as_it_was_written(folder: Path) -> None:
    run = read_run(folder)
    assert run.success.tolist() == list(CURVE.values())
    assert run.vector_steps.tolist() == list(CURVE)
    assert run.env_steps.tolist() == [3 * step for step in CURVE]
    assert run.seconds.tolist() == [step / 20 for step in CURVE]
    assert (run.updates_per_second, run.env_steps_per_second) == (20, 60)
    assert (run.is_complete, run.reached) == (True, TOTAL)
    assert run.protocol["tasks"] == "3: reach-v3, drawer-close-v3, window-open-v3"
    assert run.protocol["environment steps in all"] == "3,000"
    assert run.protocol["horizon"] == 500


def test_a_run_that_ended_at_a_success_rate_is_complete_and_says_so(tmp_path: Path) -> None:
    for stop_at, is_complete in ((0.0, False), (0.5, True), (0.51, False)):
        config = make_config(stop_at=stop_at)
        folder = write_run_folder(tmp_path / str(stop_at), config, {500: [0.25, 0.5, 0.75]})
        run = read_run(folder)
        assert run.is_complete == is_complete
        assert ("end" in run.protocol) == (stop_at > 0)


def test_a_longer_run_counts_as_over_at_a_step(template: Path, tmp_path: Path) -> None:
    shorter = make_config(total_steps=500)
    asked_for = read_run(write_run_folder(tmp_path / "run", shorter, {500: CURVE[500]}))
    run = read_run(template, 500)
    assert run.is_complete
    assert (run.config, run.protocol) == (asked_for.config, asked_for.protocol)
    assert run.success.tolist() == asked_for.success.tolist()
    weights = run.logged["weights", "critic"]["reach-v3"]
    assert (
        len(weights.steps)
        == 2
        < len(read_run(template).logged["weights", "critic"]["reach-v3"].steps)
    )
    assert not read_run(template, 400).is_complete
    assert read_run(template, 10 * TOTAL).reached == TOTAL


def test_a_run_that_lowers_its_rates_until_its_end_would_have_been_another(tmp_path: Path) -> None:
    config = make_config(learning_rate_end=0.1)
    folder = write_run_folder(tmp_path / "run", config, CURVE)
    assert read_run(folder, TOTAL).is_complete
    with pytest.raises(UserError, match=r"lowers a rate until step 1000, .*at step 500 .*--until"):
        read_run(folder, 500)


def test_a_benchmark_stands_for_its_tasks(folder: Path) -> None:
    config = folder / "config.yaml"
    short = [line for line in config.read_text().splitlines() if not line.startswith("- ")]
    config.write_text("\n".join(short).replace("tasks:", "tasks: []"))
    assert len(read_run(folder).tasks) == 10


@pytest.mark.parametrize("missing_rows", [1, 2, 3, 4])
def test_a_run_without_all_of_its_last_evaluation_is_incomplete(
    folder: Path, missing_rows: int
) -> None:
    path = folder / "evaluation.csv"
    lines = path.read_text().splitlines()[:-missing_rows]
    path.write_text("\n".join(lines) + "\n")
    run = read_run(folder)
    only_the_mean = missing_rows == 1  # which is found anew from the tasks
    assert run.is_complete == only_the_mean
    assert len(run.success) == (2 if only_the_mean else 1)


def test_a_run_that_was_never_evaluated_is_incomplete(folder: Path) -> None:
    (folder / "evaluation.csv").write_text("")
    (folder / "training.csv").unlink()
    run = read_run(folder)
    assert (run.is_complete, run.reached, run.success.shape) == (False, 0, (0, 3))
    assert np.isnan(run.updates_per_second)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("evaluation.csv", "vector_steps,task\n1,reach-v3\n", "is damaged"),
        ("evaluation.csv", "a\n1\n", "a CSV file of .*run is damaged"),
        ("training.csv", "vector_steps,updates,env_steps,seconds\n1,x,1,2\n", "could not convert"),
        ("run.json", "{", r"run\.json is damaged: it holds no protocol"),
        ("run.json", "[]", "it holds no protocol"),
        ("run.json", '{"protocol": 3}', "it holds no protocol"),
        ("config.yaml", "method: [nkt]\n", r"unknown method \['nkt'\]"),
        ("config.yaml", "sead: 1\n", r"config\.yaml: unknown key 'sead'"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    if name == "evaluation.csv" and "task" in text:
        (folder / name).write_text(text + "1,drawer-close-v3\n1,window-open-v3\n")
    with pytest.raises(UserError, match=said):
        read_run(folder)


def test_what_differs_is_named_with_the_runs(folder: Path) -> None:
    run = read_run(folder)
    other = replace(run, path=Path("other"), protocol={**run.protocol, "horizon": 150})
    runs = [run, other, replace(other, path=Path("third"))]
    assert [*differences([one.protocol for one in runs], runs).values()] == [
        f"horizon is 500 in {folder}, but 150 in other and 1 more"
    ]
    assert differences([one.protocol for one in (run, run)], (run, run)) == {}
    assert [*differences([{}, {"a": 1}], (run, other)).values()] == [
        f"a is not stated in {folder}, but 1 in other"
    ]
    (line,) = differences([{"a": "b" * 200}, {"a": 1}], (run, other)).values()
    assert len(line) < 200


def test_seeds_and_circumstances_make_no_other_method(template: Path) -> None:
    run = read_run(template)
    runs = [changed(run, seed=seed) for seed in (3, 1)] + [
        changed(run, seed=2, threads=4, workers=0, log_every=7, kernel_every=10, device="cpu")
    ]
    (method,) = group_runs(runs)
    assert method.name == "ntkmtl"
    assert [one.config.seed for one in method.runs] == [1, 2, 3]
    assert repeated_seeds([method]) == []


def test_how_a_run_was_watched_and_kept_alive_makes_no_other_method(template: Path) -> None:
    run = read_run(template)
    watched: list[dict[str, object]] = [
        {"wandb": True},
        {"worker_timeout": 60},
        {"worker_restarts": 1, "restart_window": 9},
    ]
    (method,) = group_runs([changed(run, seed=n, **each) for n, each in enumerate(watched)])
    assert (method.name, len(method.runs)) == ("ntkmtl", 3)


@pytest.mark.parametrize("method", METHODS)
def test_runs_of_a_method_differ_in_nothing_that_is_learnt(template: Path, method: str) -> None:
    small = {"batch_size": 2, "replay_capacity": 4, "warmstart_steps": 2, "kernel_minibatches": 2}
    base = defaults(method) if method != "ntkmtl" else make_config(**small)
    run, facts = read_run(template), {name: facts for name, _, facts in leaves(base)}
    for option in options(base if method == "ntkmtl" else base.weighting):
        if option.name == "method":
            other = make_config(**small, method=example(option))
        else:
            other = updated(base, {option.name: example(option)})
        configs = (base, replace(other, seed=2))
        methods = group_runs([replace(run, config=config) for config in configs])
        assert len(methods) == 1 + (facts[option.name]["decides"] in SHARED), option.name


def test_what_is_no_circumstance_is_named(template: Path) -> None:
    run = read_run(template)
    runs = [changed(run, seed=n, num_minibatches=n, width=64 * n) for n in (1, 2)]
    runs += [changed(run, method="equal"), changed(run, method="equal", network="independent")]
    assert [method.name for method in group_runs(runs)] == [
        "ntkmtl, width 64, num_minibatches 1",
        "ntkmtl, width 128, num_minibatches 2",
        "equal",
        "STL",
    ]


FAR: dict[str, object] = {"width": 64, "depth": 1, "gamma": 0.9, "tau": 0.1}


def test_methods_that_differ_in_much_are_told_apart_by_preset_or_number(template: Path) -> None:
    run = read_run(template)
    presets = [changed(run), changed(run, preset="quick", **FAR)]
    assert [method.name for method in group_runs(presets)] == ["ntkmtl, mt3", "ntkmtl, quick"]
    numbered = [changed(run), changed(run, total_steps=500)]
    numbered += [changed(run, **{**FAR, "depth": depth}) for depth in (4, 5)]
    names = [method.name for method in group_runs(numbered)]
    assert len(set(names)) == 4
    assert all(re.match(r"ntkmtl,.* variant \d$", name) for name in names)


def test_settings_changed_one_at_a_time_name_what_was_changed(template: Path) -> None:
    run = read_run(template)
    runs = [changed(run), *(changed(run, **{name: value}) for name, value in FAR.items())]
    assert [method.name for method in group_runs(runs)] == [
        "ntkmtl",
        *(f"ntkmtl, {name} {value}" for name, value in FAR.items()),
    ]


def test_two_runs_of_a_seed_are_named(template: Path) -> None:
    run = read_run(template)
    again = replace(run, path=Path("again"))
    assert repeated_seeds(group_runs([run, again, changed(run, seed=2)])) == [
        f"seed 1 of ntkmtl: {template}, again"
    ]


def test_curves_are_over_the_steps_that_all_runs_evaluated(template: Path) -> None:
    run = read_run(template)
    rarely = replace(
        changed(run, seed=2), env_steps=run.env_steps[-1:], success=np.full((1, 3), 0.5)
    )
    steps, curves = group_runs([run, rarely])[0].curves
    assert steps.tolist() == [3 * TOTAL]
    assert curves.tolist() == [[pytest.approx(1.75 / 3)], [0.5]]


def test_run_info_need_not_name_versions(folder: Path) -> None:
    info = json.loads((folder / "run.json").read_text())
    del info["versions"]
    (folder / "run.json").write_text(json.dumps(info))
    assert read_run(folder).versions == {}


def test_returns_are_shares_of_what_these_runs_reached(folder: Path) -> None:
    """Where nothing counts as success; runs in which something does are left as they are."""
    other = read_run(folder)
    runs = [
        replace(
            other,
            success=np.array(returns, np.float64),
            protocol={**other.protocol, "success": NO_SUCCESS},
        )
        for returns in ([[-4, 5, 7], [0, 5, 7]], [[-2, 5, 9]])
    ]
    first, second, third = with_returns_as_shares([*runs, other])
    assert first.counts_returns
    assert first.success.tolist() == [[0, 0, 0], [1, 0, 0]]
    assert second.success.tolist() == [[0.5, 0, 1]]
    assert third is other


def test_a_run_without_success_is_read_with_its_returns(folder: Path) -> None:
    info = json.loads((folder / RUN_INFO).read_text())
    info["protocol"]["success"] = NO_SUCCESS
    (folder / RUN_INFO).write_text(json.dumps(info))
    before = read_run(folder).success
    assert before.max() > 1
    assert with_returns_as_shares([read_run(folder)])[0].success.max() <= 1
