"""An interrupted run goes on as if it had not been: the same bytes in all that it leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from mtrl_ntk.errors import ConfigError, Interrupted, UserError
from mtrl_ntk.experiment.agents import load_trained
from mtrl_ntk.experiment.checkpoints.archive import best_checkpoint, checkpoints, load_newest
from mtrl_ntk.experiment.checkpoints.checkpoint import WEIGHTS, CheckpointError, save_checkpoint
from mtrl_ntk.experiment.config import NEWEST, RunConfig, to_dict
from mtrl_ntk.experiment.evaluation.episodes import evaluate
from mtrl_ntk.experiment.logs.csv_sink import success_rates
from mtrl_ntk.experiment.logs.progress import Progress
from mtrl_ntk.experiment.options.fields import updated
from mtrl_ntk.experiment.options.sections import EvaluationConfig
from mtrl_ntk.experiment.training import assembly, evaluations as training_evaluation
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.experiment.training.loop import TrainingLoop
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.experiment.types import EvaluationResult
from mtrl_ntk.rl.envs import make_envs
from tests.experiment.outcomes import assert_same, outcome, rows
from tests.experiment.training.test_run import HORIZON, STEPS, TASKS, StubEnvs, tiny

pytestmark = pytest.mark.usefixtures("no_plots")

ROOT = Path(__file__).parents[3]


def config_for(run_dir: Path, **changes: Any) -> RunConfig:  # noqa: ANN401 - fields of many types
    config = tiny(run_dir)
    loop = replace(config.loop, replay_capacity=20, **changes)
    env = replace(config.env, reward_normalization="running_variance")
    return replace(config, loop=loop, env=env)


def resumed(config: RunConfig, **changes: Any) -> RunConfig:  # noqa: ANN401 - fields of many types
    return replace(config, resume=NEWEST, **changes)


@pytest.fixture
def _no_evaluation_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "make_evaluation_envs", lambda *_, **__: StubEnvs())


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    train(config_for(run_dir))
    return run_dir


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def stop_after(patch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Sends a signal in the middle of a step."""
    take_step = Trainer.take_step

    def take_and_send(trainer: Trainer) -> None:
        if trainer.clock.step + 1 == step:
            send(number)
        take_step(trainer)

    patch.setattr(Trainer, "take_step", take_and_send)


def stop_during_evaluation(patch: pytest.MonkeyPatch, count: int) -> None:
    """Sends a signal when an evaluation has begun."""
    calls = iter(range(1, 100))

    def evaluate_and_send(policy: Any, *args: Any, **kwargs: Any) -> EvaluationResult:  # noqa: ANN401
        def act(observations: Any) -> Any:  # noqa: ANN401
            if is_stopped:
                send(signal.SIGUSR1)
            return policy(observations)

        is_stopped = next(calls) == count
        return evaluate(act, *args, **kwargs)

    patch.setattr(training_evaluation, "evaluate", evaluate_and_send)


def interrupt(config: RunConfig, how: Callable[[pytest.MonkeyPatch], None]) -> Interrupted:
    with pytest.MonkeyPatch.context() as patch:
        how(patch)
        with pytest.raises(Interrupted) as stop:
            train(config)
    return stop.value


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(HORIZON, marks=pytest.mark.slow),
        27,
    ],
)
def test_a_run_stopped_at_any_step_goes_on_bit_for_bit(
    tmp_path: Path, straight: Path, step: int
) -> None:
    config = config_for(tmp_path / "run")
    interrupt(config, partial(stop_after, step=step))
    assert load_newest(tmp_path / "run" / "checkpoint").folder.name == f"step-{step:09d}"
    train(resumed(config))
    assert_same(tmp_path / "run", straight)


@pytest.mark.slow
def test_parts_of_the_agent_with_a_state_go_on_bit_for_bit(tmp_path: Path) -> None:
    def with_state(run_dir: Path) -> RunConfig:
        config = config_for(run_dir, hold_noise=6, ez_greedy=0.3)
        return replace(config, sac=replace(config.sac, n_steps=3, normalize_returns=10))

    train(with_state(tmp_path / "straight"))
    config = with_state(tmp_path / "run")
    interrupt(config, partial(stop_after, step=27))
    train(resumed(config))
    assert_same(tmp_path / "run", tmp_path / "straight")


def decaying(run_dir: Path, **changes: Any) -> RunConfig:  # noqa: ANN401 - fields of many types
    config = config_for(run_dir, **changes)
    return replace(config, sac=replace(config.sac, learning_rate_end=0.1, target_entropy_end=0))


@pytest.mark.slow
def test_a_longer_run_with_the_old_decay_is_that_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(decaying(tmp_path / "straight", decay_steps=30))
    run_dir = tmp_path / "run"
    train(decaying(run_dir, total_steps=30))
    shutil.copytree(run_dir, tmp_path / "other")
    train(resumed(decaying(run_dir, decay_steps=30)))
    assert_same(run_dir, tmp_path / "straight")
    log = rows(run_dir / "training.csv")
    rates = [float(row["scheduled/learning_rate"]) for row in log]
    assert rates[0] > rates[-1] == pytest.approx(0.1 * decaying(run_dir).sac.learning_rate)
    assert [float(row["scheduled/target_entropy"]) for row in log][-1] == 0
    assert "their ends" not in capsys.readouterr().out
    train(resumed(decaying(tmp_path / "other")))
    assert f"at their ends after 30 steps, are after {STEPS}" in capsys.readouterr().out


def test_a_run_that_goes_on_shows_its_last_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(tmp_path / "run")
    interrupt(config, partial(stop_after, step=33))
    shown: list[Any] = []
    monkeypatch.setattr(Progress, "go_on", lambda _, *shows: shown.append(shows))
    train(resumed(config))
    ((steps, training, evaluation),) = shown
    assert steps == 33
    assert training.keys() == set(evaluation.task_names)
    assert success_rates(tmp_path / "run")[30] == evaluation.mean_success_rate


def stop_while_starting(patch: pytest.MonkeyPatch) -> None:
    """Sends a signal while the environments are made."""

    def send_and_make(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        send(signal.SIGUSR1)
        return make_envs(*args, **kwargs)

    patch.setattr(assembly, "make_envs", send_and_make)


def test_a_stop_while_a_run_starts_is_saved_too(tmp_path: Path, straight: Path) -> None:
    config = config_for(tmp_path / "run")
    stop = interrupt(config, stop_while_starting)
    assert stop.exit_code == 128 + signal.SIGUSR1
    assert load_newest(tmp_path / "run" / "checkpoint").folder.name == "step-000000001"
    train(resumed(config))
    assert_same(tmp_path / "run", straight)


@pytest.mark.parametrize(
    ("count", "step"), [(1, 30), pytest.param(2, STEPS, marks=pytest.mark.slow)]
)
def test_an_evaluation_need_not_end_first(
    tmp_path: Path, straight: Path, count: int, step: int
) -> None:
    config = config_for(tmp_path / "run")
    stop = interrupt(config, partial(stop_during_evaluation, count=count))
    assert stop.exit_code == 128 + signal.SIGUSR1
    newest = load_newest(tmp_path / "run" / "checkpoint")
    assert newest.folder.name == f"step-{step:09d}"
    assert newest.checkpoint.metadata["score"] is None
    assert len(rows(tmp_path / "run" / "evaluation.csv")) == (count - 1) * (len(TASKS) + 1)
    train(resumed(config))
    assert_same(tmp_path / "run", straight)


@pytest.mark.parametrize("step", [pytest.param(30, marks=pytest.mark.slow), 37])
def test_a_run_that_has_ended_can_be_made_longer(tmp_path: Path, straight: Path, step: int) -> None:
    # What only its end has brought, a row and an evaluation, leaves the logs again.
    config = config_for(tmp_path / "run", total_steps=step)
    train(config)
    assert [row["vector_steps"] for row in rows(tmp_path / "run" / "training.csv")][-1] == str(step)
    train(resumed(replace(config, loop=replace(config.loop, total_steps=STEPS))))
    assert_same(tmp_path / "run", straight)


@pytest.mark.slow
def test_it_goes_on_as_often_as_it_is_stopped(tmp_path: Path, straight: Path) -> None:
    config = config_for(tmp_path / "run", checkpoint_every=4, keep_checkpoints=2)
    for step in (11, 38):
        interrupt(resumed(config), partial(stop_after, step=step))
    train(resumed(config))
    names = [path.name for path in checkpoints(tmp_path / "run" / "checkpoint")]
    assert names[-2:] == ["step-000000044", "step-000000045"]
    own, others = outcome(tmp_path / "run"), outcome(straight)
    assert {name for name in own if own[name] != others[name]} == {"metadata config"}


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_time_only(tmp_path: Path, straight: Path) -> None:
    config = config_for(tmp_path / "run")
    interrupt(config, partial(stop_after, step=37))
    newest = checkpoints(tmp_path / "run" / "checkpoint")[-1]
    (newest / WEIGHTS).write_bytes(b"")
    with pytest.warns(UserWarning, match="step-000000037 is damaged.*step-000000030 is used"):
        train(resumed(config))
    assert_same(tmp_path / "run", straight)


def kept_files(run_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_a_run_that_is_complete_has_nothing_left_to_do(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(straight, run_dir)
    before = kept_files(run_dir)
    result = train(resumed(config_for(run_dir)))
    said = f"nothing left to do: the run has reached its end, after {STEPS} steps"
    assert said in capsys.readouterr().out
    assert result.task_names == TASKS
    assert kept_files(run_dir) == before
    with pytest.raises(ConfigError, match=f"total_steps is 44; it must be at least {STEPS}"):
        train(resumed(config_for(run_dir, total_steps=44)))


@pytest.mark.slow
def test_without_a_checkpoint_a_run_starts_afresh_and_says_so(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def die(_: TrainingLoop) -> None:
        raise KeyboardInterrupt

    config = config_for(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLoop, "_evaluate", die)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert len(rows(tmp_path / "run" / "training.csv")) == 2
    train(resumed(config))
    assert "no checkpoint to go on from yet: starting afresh" in capsys.readouterr().out
    assert_same(tmp_path / "run", straight)


def test_an_earlier_checkpoint_can_be_named_and_what_came_later_goes(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(straight, run_dir)
    config = config_for(run_dir)
    train(replace(config, run_dir=None, resume=run_dir / "checkpoint" / "step-000000030"))
    output = capsys.readouterr().out
    assert f"going on after 30 steps from {run_dir}" in output
    assert f"removed what came after it: step-{STEPS:09d}" in output
    assert_same(run_dir, straight)
    info = json.loads((run_dir / "run.json").read_text())
    assert [each["vector_steps"] for each in info["resumed"]] == [30]


def test_a_run_can_branch_off_into_another_folder(tmp_path: Path, straight: Path) -> None:
    before = kept_files(straight)
    config = config_for(tmp_path / "branch")
    train(replace(config, resume=straight / "checkpoint" / "step-000000030"))
    assert kept_files(straight) == before
    own, others = outcome(tmp_path / "branch"), outcome(straight)
    logs = ("training.csv", "evaluation.csv", "events")
    assert {name for name in own if own[name] != others[name]} == set(logs)
    assert own["training.csv"] == others["training.csv"][-1:]
    with pytest.raises(UserError, match=r"already holds a run; .* add --resume"):
        train(replace(config, resume=straight))


def told(patch: pytest.MonkeyPatch, *success: float) -> None:
    """Has evaluations find what they are told, one after the other."""
    rates = iter(success)

    def evaluate_as_told(*args: Any, **kwargs: Any) -> EvaluationResult:  # noqa: ANN401
        result = evaluate(*args, **kwargs)
        return replace(result, success_rates=result.success_rates * 0 + next(rates))

    patch.setattr(training_evaluation, "evaluate", evaluate_as_told)


def until(run_dir: Path, stop_at: float, **changes: Any) -> RunConfig:  # noqa: ANN401 - many types
    config = config_for(run_dir, **changes)
    every = replace(config.evaluation, evaluate_every=7, stop_at=stop_at)
    return replace(config, evaluation=every)


def test_a_run_ends_at_a_success_rate_as_at_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = (0.1, 0.9, 0.4, 0.3, 0.2, 0.3, 0.5)
    told(monkeypatch, *rates)
    train(until(tmp_path / "whole", 0))
    told(monkeypatch, *rates)
    config = until(tmp_path / "run", 0.9)
    assert train(config).mean_success_rate == pytest.approx(0.9)
    output = capsys.readouterr().out
    assert "ETA at most " in output
    assert "ended after 14 steps: a mean success rate of 0.9 is enough" in output
    assert [*success_rates(tmp_path / "run")] == [7, 14]
    assert rows(tmp_path / "run" / "training.csv")[-1]["vector_steps"] == "14"
    before = kept_files(tmp_path / "run")
    train(resumed(config))
    assert "nothing left to do" in capsys.readouterr().out
    assert kept_files(tmp_path / "run") == before
    told(monkeypatch, *rates[2:])
    train(resumed(until(tmp_path / "run", 0)))
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_run_stopped_where_it_is_good_enough_ends_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, 0.1, 0.9, 0.4)
    config = until(tmp_path / "run", 0.9)
    interrupt(config, partial(stop_after, step=14))
    assert not load_newest(tmp_path / "run" / "checkpoint").checkpoint.metadata["finished"]
    train(resumed(config))
    metadata = load_newest(tmp_path / "run" / "checkpoint").checkpoint.metadata
    assert (metadata["finished"], metadata["counters"]["vector_steps"]) == (True, 14)


@given(st.integers(1, 50), st.integers(1, 60))
def test_a_rate_is_reached_whatever_its_mean_is_rounded_to(tasks: int, episodes: int) -> None:
    successes = np.arange(tasks) % (episodes + 1)
    exact = Fraction(int(successes.sum()), tasks * episodes)
    mean = float((successes / episodes).mean())
    assert EvaluationConfig(stop_at=float(exact)).is_enough(mean) == (exact > 0)
    assert not EvaluationConfig(stop_at=min(float(exact) + 1e-6, 1.0)).is_enough(mean - 1e-6)


def test_without_its_replay_a_run_is_whole_but_ends_for_good(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_for(tmp_path / "run", drop_replay=True)
    train(config)
    folder = tmp_path / "run" / "checkpoint"
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in (straight / "checkpoint").iterdir()
    } - {"replay"}
    assert load_trained(tmp_path / "run").metadata["finished"]
    before = kept_files(tmp_path / "run")
    train(resumed(config))
    assert "nothing left to do" in capsys.readouterr().out
    for start in (NEWEST, folder / "step-000000030"):
        longer = config_for(tmp_path / "run", total_steps=STEPS + 1)
        with pytest.raises(CheckpointError, match="lacks its replay, which --drop-replay") as error:
            train(replace(longer, resume=start))
        assert "\n" not in str(error.value)
    assert kept_files(tmp_path / "run") == before


def test_the_replay_of_a_run_that_has_ended_can_be_dropped_later(
    tmp_path: Path, straight: Path
) -> None:
    shutil.copytree(straight, tmp_path / "run")
    half_gone = tmp_path / "run" / "checkpoint" / ".replay.gone"
    half_gone.mkdir()
    before = kept_files(tmp_path / "run")
    train(resumed(config_for(tmp_path / "run", drop_replay=True)))
    gone = {path for path in before if path.parent.name == "replay"}
    assert gone
    assert kept_files(tmp_path / "run") == {p: c for p, c in before.items() if p not in gone}
    assert not half_gone.exists()


def test_the_best_checkpoint_outlives_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, 0.1, 0.9, 0.4, 0.9, 0.2, 0.3, 0.0)
    train(until(tmp_path / "run", 0, keep_checkpoints=1))
    folder = tmp_path / "run" / "checkpoint"
    assert [path.name for path in checkpoints(folder)] == ["step-000000028", "step-000000045"]
    assert best_checkpoint(folder) == folder / "step-000000028"


CHANGES: dict[str, Any] = {
    "batch_size": 4,
    "gamma": 0.5,
    "learning_rate": 1e-3,
    "seed": 7,
    "tasks": ("reach-v3", "push-v3"),
    "horizon": 21,
    "replay_capacity": 21,
    "warmstart_steps": 11,
    "updates_per_step": 2.0,
    "width": 17,
    "network": "multi_head",
    "precision": "bf16",
    "reward_version": "v1",
    "envs_per_task": 2,
    "evaluation_episodes": 2,
    "exponent": 0.25,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_decides_the_meaning_of_the_state_cannot_change(straight: Path, name: str) -> None:
    before = kept_files(straight)
    flag = "--" + name.replace("_", "-")
    value = CHANGES[name]
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    argv = ["--run-dir", str(straight), "--resume", flag, text]
    with pytest.raises(
        CheckpointError, match=rf"another configuration: {name} was .*, is "
    ) as error:
        train(load(argv, "train_mt10"))
    assert "\n" not in str(error.value)
    assert kept_files(straight) == before


def test_another_method_is_refused_by_name_alone(straight: Path) -> None:
    argv = ["--run-dir", str(straight), "--resume", "--method", "unit_norm"]
    with pytest.raises(CheckpointError, match="method was ntkmtl, is unit_norm; leave"):
        train(load(argv, "train_mt10"))


NEEDS_MORE = {"drop_replay", "preset", "resume", "run_dir", "video_every", "wandb"}
"""What stays, where the run is, and what needs OpenGL or an account; the rest of this file changes
the first four, and tests of videos and of the mirror compare runs with and without."""
DECIDES_NOTHING: dict[str, Any] = {
    "plugin": (Path("of_nothing.py"),),
    "workers": 2,
    "worker_timeout": 60.0,
    "worker_restarts": 1,
    "restart_window": 9,
    "lean": False,
    "log_every": 5,
    "checkpoint_every": 4,
    "keep_checkpoints": 1,
    "kernel_every": 12,
    "kernel_minibatches": 1,
    "evaluate_every": 7,
    "video_camera": "topview",
    "video_size": 96,
    "video_stride": 2,
    "video_episodes": 2,
}


@pytest.mark.slow
def test_what_decides_nothing_changes_no_bit_of_what_is_learnt(
    tmp_path: Path, straight: Path
) -> None:
    config = config_for(tmp_path / "run")
    assert to_dict(config, {"nothing"}).keys() == DECIDES_NOTHING.keys() | NEEDS_MORE
    train(updated(config, DECIDES_NOTHING))
    own, others = outcome(tmp_path / "run"), outcome(straight)
    tensors = {name for name in others if name.startswith("tensor")}
    assert {name for name in tensors if own[name] != others[name]} == set()


def test_what_has_changed_is_said(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(straight, run_dir)
    config = config_for(run_dir, total_steps=STEPS + 1, log_every=5)
    train(replace(resumed(config), threads=2))
    output = capsys.readouterr().out
    torch.set_num_threads(1)
    changes = (f"total_steps was {STEPS}, is {STEPS + 1}", "log_every was 15, is 5")
    assert all(change in output for change in changes)
    assert "results may differ by rounding: threads was 1, is 2" in output


def test_a_resumed_run_has_its_own_settings_for_defaults(straight: Path) -> None:
    config = load(["--run-dir", str(straight), "--resume", "--total-steps", "99"], "train_mt10")
    own = config_for(straight, total_steps=99)
    assert config == resumed(own)
    by_path = load(["--resume", str(straight), "--total-steps", "99"], "train_mt10")
    assert by_path == replace(own, run_dir=None, resume=straight)


def test_a_missing_place_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--resume needs --run-dir, or the path of a run"):
        load(["--resume"], "train_mt10")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        train(load(["--resume", str(tmp_path / "x"), "--run-dir", str(tmp_path)], "train_mt10"))
    save_checkpoint(tmp_path / "lost", {"a": torch.zeros(1)}, {})
    with pytest.raises(ConfigError, match="is in no run's folder; say with --run-dir"):
        train(load(["--resume", str(tmp_path / "lost")], "train_mt10"))
    argv = ["--resume", str(tmp_path / "lost"), "--run-dir", str(tmp_path / "new")]
    with pytest.raises(CheckpointError, match="holds an agent only: no run can go on from it"):
        train(load(argv, "train_mt10"))
    assert [path.name for path in tmp_path.iterdir()] == ["lost"]


@pytest.mark.usefixtures("_no_evaluation_envs")
@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("envs", {}),
        ("metrics", {"sums": {}, "counts": {"a": 1}}),
        ("counters", {"steps": 1}),
        ("agent_stream", [1, 2]),
        ("evaluation", {"task_names": 5}),
        ("inserted", None),
    ],
)
def test_a_state_that_is_none_is_one_line(
    tmp_path: Path, straight: Path, part: str, value: object
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(straight, run_dir)
    found = load_newest(run_dir / "checkpoint")
    metadata = found.checkpoint.metadata
    metadata["state"][part] = value
    metadata["finished"] = False
    save_checkpoint(found.folder, found.checkpoint.tensors, metadata, found.checkpoint.training)
    with pytest.raises(CheckpointError, match=r"step-000000045 is not of such a run: ") as error:
        train(resumed(config_for(run_dir, total_steps=STEPS + 5)))
    assert "\n" not in str(error.value)


def test_a_run_goes_on_on_another_kind_of_device(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(straight, run_dir)
    found = load_newest(run_dir / "checkpoint")
    metadata, streams = found.checkpoint.metadata, ("agent_stream", "replay_stream")
    metadata["made_with"] |= {"device": "cuda", "precision": "bf16"}
    short = dict.fromkeys(streams, torch.zeros(16, dtype=torch.uint8))
    tensors = found.checkpoint.training | short
    save_checkpoint(found.folder, found.checkpoint.tensors, metadata, tensors)
    train(resumed(config_for(run_dir, total_steps=STEPS + 3)))
    changes = "device was cuda, is cpu; precision was bf16, is float32"
    assert f"may differ by rounding: {changes}" in capsys.readouterr().out
    after = load_newest(run_dir / "checkpoint").checkpoint.training
    assert all(after[name].numel() > 16 for name in streams)
    assert not torch.equal(*(after[name] for name in streams))


FLAGS = {
    "--tasks": "reach-v3,door-open-v3,peg-insert-side-v3",
    "--horizon": "20",
    "--width": "16",
    "--depth": "2",
    "--batch-size": "8",
    "--warmstart-steps": "10",
    "--replay-capacity": "30",
    "--log-every": "15",
    "--evaluate-every": "20",
    "--evaluation-episodes": "1",
    "--total-steps": "50",
    "--threads": "1",
    "--device": "cpu",
    "--checkpoint-every": "7",
}


def train_mt10(run_dir: Path, *argv: str) -> subprocess.Popen[str]:
    program = "from mtrl_ntk.cli import train_mt10; train_mt10()"
    flags = [text for flag in FLAGS.items() for text in flag]
    return subprocess.Popen(
        [sys.executable, "-c", program, *flags, "--run-dir", str(run_dir), *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=1200)
    return process.returncode, errors


def wait_for_steps(run_dir: Path, steps: int) -> None:
    deadline = time.monotonic() + 1200
    while (
        not (found := checkpoints(run_dir / "checkpoint")) or found[-1].name < f"step-{steps:09d}"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_goes_on_in_other_processes_with_other_numbers_of_workers(tmp_path: Path) -> None:
    straight = train_mt10(tmp_path / "straight", "--workers", "0")
    parts = tmp_path / "parts"
    for number, steps, workers in (
        (signal.SIGUSR1, 7, "2"),
        (signal.SIGKILL, 28, "0"),
    ):
        process = train_mt10(parts, "--workers", workers, "--resume")
        wait_for_steps(parts, steps)
        # As a scheduler does, to all processes of the job.
        os.killpg(process.pid, number)
        code, errors = finished(process)
        if number == signal.SIGKILL:
            assert code == -number
        else:
            assert code == 128 + number
            assert errors.count("\n") == 1
            assert f"to go on: train_mt10 --run-dir {parts} --resume" in errors
    assert finished(train_mt10(parts, "--workers", "1", "--resume")) == (0, "")
    assert finished(straight) == (0, "")
    own, others = outcome(parts), outcome(tmp_path / "straight")
    differing = {name for name in own if own[name] != others[name]}
    assert differing <= {"metadata config"}
