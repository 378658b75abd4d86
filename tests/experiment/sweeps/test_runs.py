"""Which runs a sweep has, what their folders say, and how they share a machine."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from mtrl_ntk.experiment.config import RunConfig, save
from mtrl_ntk.experiment.logs.csv_sink import success_rates
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.sweeps.options import Sweep, SweepOptions
from mtrl_ntk.experiment.sweeps.runs import (
    JobsPlan,
    folder_state,
    last_logged_step,
    plan_jobs,
    plan_runs,
    usable_gpus,
)
from mtrl_ntk.experiment.types import Counters
from mtrl_ntk.rl.envs import EnvConfig
from tests.experiment.sweeps.made_sweeps import SETTINGS, STEPS, write_finished_run


def sweep(out: Path, *settings: str, vary: tuple[str, ...] = ()) -> Sweep:
    options = SweepOptions(methods=("ntkmtl", "equal"), seeds=("1-2",), vary=vary, out=out)
    return Sweep(options, (*SETTINGS, *settings))


def test_every_method_has_every_seed_and_variant(tmp_path: Path) -> None:
    runs = plan_runs(sweep(tmp_path, "--depth=3", vary=("width=32,64",)))
    assert [run.name for run in runs] == [
        f"{method}-width={width}-seed{seed}"
        for seed in (1, 2)
        for width in (32, 64)
        for method in ("ntkmtl", "equal")
    ]
    last = runs[-1]
    assert (last.config.method, last.config.seed) == ("equal", 2)
    assert (last.config.sac.width, last.config.sac.depth) == (64, 3)
    assert last.folder == last.config.run_dir == tmp_path / last.name
    assert list(tmp_path.iterdir()) == []


def test_arguments_say_what_the_configuration_does(tmp_path: Path) -> None:
    from mtrl_ntk.experiment.training.command import load

    for run in plan_runs(sweep(tmp_path, vary=("tau=0.01,0.02",))):
        assert load(run.arguments, "train_mt10") == run.config


def test_a_sweep_is_named_for_its_preset(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("width: 8\n")
    options = SweepOptions(methods=("equal",))
    (run,) = plan_runs(Sweep(options, (f"--config={tmp_path / 'mine.yaml'}",)))
    assert run.folder == Path("sweeps/mine/equal-seed1")


@pytest.mark.parametrize(
    ("settings", "vary", "said"),
    [
        (["--widht=8"], (), "unknown option --widht; did you mean --width?"),
        (["--width=0"], (), "width is 0"),
        ([], ("width=8,none",), "--width is 'none'"),
        ([], ("width=8,8",), "two runs would be named"),
        ([], ("gamma=0.9,0.90",), "would be the same; leave one out"),
        (["--exponent=0.5"], (), "it is an option of ntkmtl"),
    ],
)
def test_no_run_is_planned_if_one_cannot_be(
    tmp_path: Path, settings: list[str], vary: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_runs(sweep(tmp_path, *settings, vary=vary))


def test_a_change_is_a_run_beside_the_one_without(tmp_path: Path) -> None:
    options = SweepOptions(methods=("equal",), change=("depth=2", "tau=0.01"), out=tmp_path)
    names = [run.name for run in plan_runs(Sweep(options, ("--depth=3",)))]
    assert names == ["equal-seed1", "equal-depth=2-seed1", "equal-tau=0.01-seed1"]
    with pytest.raises(ConfigError, match="equal-seed1 and equal-depth=2-seed1 would be the same"):
        plan_runs(Sweep(options, ("--depth=2",)))


def test_a_finished_run_has_saved_and_evaluated_its_last_step(tmp_path: Path) -> None:
    (run, *_) = plan_runs(sweep(tmp_path))
    assert folder_state(run) == "new"
    run.folder.mkdir()
    assert folder_state(run) == "new"
    write_finished_run(run.folder)
    assert folder_state(run) == "finished"
    longer = replace(run.config, loop=replace(run.config.loop, total_steps=STEPS + 1))
    assert folder_state(replace(run, config=longer)) == "interrupted"
    evaluation = run.folder / "evaluation.csv"
    whole = evaluation.read_text()
    evaluation.write_text(whole.removesuffix("\n"))  # of the last row a part
    assert folder_state(run) == "interrupted"
    evaluation.write_text(whole)
    (run.folder / "checkpoint" / f"step-{STEPS:09d}" / "manifest.json").write_text("{")
    assert folder_state(run) == "interrupted"


def test_a_run_that_was_good_enough_early_is_finished(tmp_path: Path) -> None:
    states = {}
    for stop_at in (0, 0.75, 0.76):
        (run, *_) = plan_runs(sweep(tmp_path, f"--stop-at={stop_at}"))
        write_finished_run(run.folder, STEPS // 2)  # with a success rate of 0.75
        states[stop_at] = folder_state(run)
    assert states == {0: "interrupted", 0.75: "finished", 0.76: "interrupted"}


def test_runs_of_a_sweep_drop_their_replays_unless_told_not_to(tmp_path: Path) -> None:
    assert all(run.config.loop.drop_replay for run in plan_runs(sweep(tmp_path)))
    kept = plan_runs(sweep(tmp_path, "--no-drop-replay"))
    assert not any(run.config.loop.drop_replay for run in kept)


def test_a_sweep_whose_replays_are_gone_cannot_be_made_longer(tmp_path: Path) -> None:
    (run, *_) = plan_runs(sweep(tmp_path))
    write_finished_run(run.folder)
    save(run.config, run.folder / "config.yaml")
    (checkpoint,) = (run.folder / "checkpoint").iterdir()
    segment = {"file": "a.safetensors", "size": 1, "sha256": "", "first": [0], "last": [1]}
    metadata = load_checkpoint(checkpoint).metadata | {"replay": [segment]}
    save_checkpoint(checkpoint, {"weight": torch.zeros(1)}, metadata)
    plan_runs(sweep(tmp_path))
    with pytest.raises(ConfigError, match="has ended without its replay"):
        plan_runs(sweep(tmp_path, f"--total-steps={STEPS + 1}"))
    (run.folder / "checkpoint" / "replay").mkdir()
    plan_runs(sweep(tmp_path, f"--total-steps={STEPS + 1}"))


def test_an_evaluated_run_that_was_not_saved_is_not_finished(tmp_path: Path) -> None:
    (run, *_) = plan_runs(sweep(tmp_path))
    write_finished_run(run.folder, finished=False)
    assert folder_state(run) == "interrupted"


def test_a_folder_with_other_settings_is_refused(tmp_path: Path) -> None:
    (run, *_) = plan_runs(sweep(tmp_path, "--width=32"))
    write_finished_run(run.folder)
    save(run.config, run.folder / "config.yaml")
    assert plan_runs(sweep(tmp_path, "--width=32", "--threads=2", "--log-every=9"))
    with pytest.raises(ConfigError, match="width was 32, is 64; choose another --out"):
        plan_runs(sweep(tmp_path, "--width=64"))
    assert plan_runs(sweep(tmp_path, "--width=32", "--total-steps=100"))
    with pytest.raises(ConfigError, match="is already at step 80"):
        plan_runs(sweep(tmp_path, "--width=32", "--total-steps=70"))


def test_progress_is_that_of_the_logs(tmp_path: Path) -> None:
    assert (last_logged_step(tmp_path), success_rates(tmp_path)) == (0, {})
    with RunLogger(tmp_path, ["a", "b"]) as logger:
        assert (last_logged_step(tmp_path), success_rates(tmp_path)) == (0, {})
        for step in (7, 12):
            logger.log_training(Counters(step, 2 * step, 0, 1.0), {"wide" * 99: 0.5})
            assert last_logged_step(tmp_path) == step
    with (tmp_path / "training.csv").open("a") as file:
        file.write("19,38")
    assert last_logged_step(tmp_path) == 12
    write_finished_run(tmp_path)
    with (tmp_path / "evaluation.csv").open() as file:
        assert len(list(csv.reader(file))) == 5
    assert success_rates(tmp_path) == {STEPS // 2: 0.25, STEPS: 0.75}


def configs(count: int, threads: int = 0, workers: int = -1, tasks: int = 10) -> list[RunConfig]:
    names = ("reach-v3", "push-v3")[:tasks] if tasks < 10 else ()
    env = EnvConfig(workers=workers, tasks=names)
    return [RunConfig(threads=threads, env=env, device="cpu")] * count


@pytest.fixture(autouse=True)
def _no_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_threads_of_the_environment_are_each_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtrl_ntk.rl.envs.config.usable_cores", lambda: 16)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    plan = plan_jobs(configs(30), 0, 16)
    assert (plan.jobs, plan.share(configs(1)[0])) == (4, (4, 0))
    assert plan.share(configs(1, threads=2)[0]).threads == 2


@pytest.mark.parametrize("cores", [1, 2, 3, 7, 16, 64])
@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_runs_never_want_more_cores_than_there_are(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int
) -> None:
    monkeypatch.setattr("mtrl_ntk.rl.envs.config.usable_cores", lambda: cores)
    for threads, workers, wanted in product((0, 1, 3), (-1, 0, 2), (0, 1)):
        runs = configs(count, threads, workers)
        plan = plan_jobs(runs, wanted, cores)
        share = plan.share(runs[0])
        asked = (threads or 1) + max(workers, 0)
        assert plan.jobs * sum(share) <= max(cores, asked)
        assert 1 <= plan.jobs <= count
        assert share.threads == threads or (threads == 0 and share.threads >= 1)
        assert share.workers == workers or (workers == -1 and 0 <= share.workers <= 10)


def test_the_machine_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtrl_ntk.rl.envs.config.usable_cores", lambda: 16)
    assert plan_jobs(configs(30), 0, 16).jobs == 16
    assert plan_jobs(configs(30, workers=1), 0, 16).jobs == 8
    few = plan_jobs(configs(3), 0, 16)
    assert (few.jobs, few.share(configs(1)[0])) == (3, (4, 1))
    one = plan_jobs(configs(1), 0, 16)
    assert one.share(configs(1)[0]) == (12, 4)
    assert one.share(configs(1, tasks=2)[0]) == (14, 2)
    assert plan_jobs(configs(9), 5, 16).jobs == 5


def test_each_gpu_has_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtrl_ntk.rl.envs.config.usable_cores", lambda: 16)
    plan = plan_jobs(configs(9), 0, 16, ["0", "2"])
    assert plan.slots == [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "2")]
    assert sum(plan.share(configs(1)[0])) == 8
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in JobsPlan(3, 16, ("0", "2")).slots] == [
        *("0", "2", "0")
    ]
    assert plan_jobs(configs(9), 0, 16).slots == [{}] * 9


def test_gpus_are_those_that_the_user_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    learners = [replace(config, device="auto") for config in configs(2)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert usable_gpus(learners) == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert usable_gpus(learners) == ("4", "7")
    assert usable_gpus(configs(2)) == ()


def test_a_sweep_of_other_tasks_is_not_filed_under_mt10() -> None:
    def folder(*settings: str, vary: tuple[str, ...] = ()) -> str:
        options = SweepOptions(methods=("equal",), vary=vary)
        (parent,) = {run.folder.parent for run in plan_runs(Sweep(options, settings))}
        return str(parent)

    assert folder() == "sweeps/mt10"
    assert folder("--tasks=reach-v3,push-v3") == "sweeps/mt2"
    assert folder("--benchmark=MT25") == "sweeps/mt25"
    assert folder(vary=("benchmark=MT10,MT25",)) == "sweeps/mt10"
