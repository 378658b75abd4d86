"""The loop: what a run leaves behind, in which order it works, and that it repeats itself."""

from __future__ import annotations

import csv
import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.checkpoints.checkpoint import Checkpoint
from mtrl_ntk.experiment.config import RunConfig, read, to_dict
from mtrl_ntk.experiment.evaluation.episodes import protocol
from mtrl_ntk.experiment.logs.logger import final_metrics
from mtrl_ntk.experiment.options.sections import EvaluationConfig, LoopConfig
from mtrl_ntk.experiment.training import (
    assembly,
    evaluations as training_evaluation,
    run as training,
    whole,
)
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.experiment.types import EvaluationResult
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM, EnvConfig, MultiTaskVectorEnv, make_envs
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC, Noise, SacConfig
from mtrl_ntk.rl.types import Batch, Metrics
from tests.clock import Standstill

TASKS = ("reach-v3", "drawer-close-v3")
COPIES, HORIZON, STEPS, WARMSTART = 2, 20, 45, 10
NETWORKS = ("critic", "actor")


def tiny(run_dir: Path, *, copies: int = 1, workers: int = 0, seed: int = 1) -> RunConfig:
    return RunConfig(
        seed=seed,
        run_dir=run_dir,
        device="cpu",
        threads=1,
        env=EnvConfig(tasks=TASKS, horizon=HORIZON, envs_per_task=copies, workers=workers),
        sac=SacConfig(batch_size=8, width=16, depth=2),
        loop=LoopConfig(
            total_steps=STEPS, warmstart_steps=WARMSTART, replay_capacity=500, log_every=15
        ),
        evaluation=EvaluationConfig(evaluate_every=30, evaluation_episodes=1),
    )


@dataclass
class Trace:
    """What the parts of a run were asked, in order."""

    events: list[str] = field(default_factory=list)
    """Names of the calls."""
    sizes: list[list[int]] = field(default_factory=list)
    """Transitions per task that each update could draw from."""
    diagnosed: list[bool] = field(default_factory=list)
    """For each update, whether diagnostics were asked for."""
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    """Actions of each step."""
    results: list[tuple[Any, ...]] = field(default_factory=list)
    """Results of each step."""
    added: list[tuple[Any, ...]] = field(default_factory=list)
    """Arguments of each insertion."""


def record(patch: pytest.MonkeyPatch) -> Trace:
    """Makes the training environments, the replay and the agent tell what they do."""
    trace = Trace()
    replays: list[MultiTaskReplayBuffer] = []
    plain_init, plain_add = MultiTaskReplayBuffer.__init__, MultiTaskReplayBuffer.add
    plain_update = MultiTaskSAC.update

    def make_traced(*args: Any, **kwargs: Any) -> MultiTaskVectorEnv:  # noqa: ANN401
        envs = make_envs(*args, **kwargs)
        step_async, step_wait = envs.step_async, envs.step_wait

        def begin(actions: NDArray[np.float32]) -> None:
            trace.events.append("begin")
            trace.actions.append(actions)
            step_async(actions)

        def end() -> tuple[Any, ...]:
            trace.events.append("end")
            trace.results.append(step_wait())
            return trace.results[-1]

        patch.setattr(envs, "step_async", begin)
        patch.setattr(envs, "step_wait", end)
        return envs

    def init(replay: MultiTaskReplayBuffer, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        replays.append(replay)
        plain_init(replay, *args, **kwargs)

    def add(replay: MultiTaskReplayBuffer, *args: Any) -> None:  # noqa: ANN401
        trace.events.append("add")
        trace.added.append(args)
        plain_add(replay, *args)

    def update(
        agent: MultiTaskSAC, batch: Batch, noise: Noise | None = None, *, diagnose: bool = False
    ) -> Metrics:
        trace.events.append("update")
        trace.sizes.append(replays[-1].sizes.tolist())
        trace.diagnosed.append(diagnose)
        return plain_update(agent, batch, noise, diagnose=diagnose)

    patch.setattr(assembly, "make_envs", make_traced)
    # What is recorded runs no Python.
    patch.setattr(assembly, "recorder_for", lambda *_, **__: None)
    patch.setattr(MultiTaskReplayBuffer, "__init__", init)
    patch.setattr(MultiTaskReplayBuffer, "add", add)
    patch.setattr(MultiTaskSAC, "update", update)
    return trace


@dataclass
class Finished:
    """A run that is over."""

    config: RunConfig
    run_dir: Path
    result: EvaluationResult
    trace: Trace


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A real run, short but whole, with two copies of two tasks."""
    run_dir = tmp_path_factory.mktemp("training") / "run"
    config = tiny(run_dir, copies=COPIES)
    with pytest.MonkeyPatch.context() as patch:
        trace = record(patch)
        result = train(config)
    return Finished(config, run_dir, result, trace)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_everything_in_its_folder(run: Finished) -> None:
    names = {path.name for path in run.run_dir.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert names - events == {
        "config.yaml",
        "run.json",
        "training.csv",
        "evaluation.csv",
        "checkpoint",
        "plots",
    }
    assert len(events) == 1
    assert {path.name for path in (run.run_dir / "plots").iterdir()} == {
        "success.png",
        "weights.png",
        "ntk.png",
        "losses.png",
    }


def test_the_configuration_and_the_protocol_are_kept(run: Finished) -> None:
    assert read(run.run_dir / "config.yaml") == replace(run.config, run_dir=None)
    info = json.loads((run.run_dir / "run.json").read_text())
    assert info["protocol"] == protocol(run.config.env, run.config.evaluation)


def test_evaluations_have_a_row_per_task_and_one_for_the_mean(run: Finished) -> None:
    table = rows(run.run_dir / "evaluation.csv")
    assert list(table[0]) == [
        "vector_steps",
        "env_steps",
        "updates",
        "seconds",
        "task",
        "success_rate",
        "mean_return",
        "episodes",
    ]
    assert [(row["vector_steps"], row["task"]) for row in table] == [
        (steps, task) for steps in ("30", "45") for task in (*TASKS, "mean")
    ]
    for row in table:
        assert int(row["env_steps"]) == int(row["vector_steps"]) * len(TASKS) * COPIES
        assert int(row["updates"]) == int(row["vector_steps"]) - WARMSTART
        assert row["episodes"] == "1"
    last = [float(row["mean_return"]) for row in table[-3:-1]]
    assert last == pytest.approx(run.result.mean_returns.tolist(), rel=1e-8)


def test_training_rows_hold_the_means_since_the_row_before(run: Finished) -> None:
    table = rows(run.run_dir / "training.csv")
    assert [(row["vector_steps"], row["updates"]) for row in table] == [
        ("15", "5"),
        ("30", "20"),
        ("45", "35"),
    ]
    # The first episodes end with step 20: until then there is no success rate.
    assert [row[f"charts/training_success_rate/{TASKS[0]}"] == "" for row in table] == [
        True,
        False,
        False,
    ]
    numbers = {column: float(value) for column, value in table[-1].items()}
    weights = [numbers[f"weights/critic/{task}"] for task in TASKS]
    assert all(weight > 0 for weight in weights)
    assert weights[0] != weights[1]
    assert numbers["charts/env_steps_per_second"] > 0
    assert numbers["charts/updates_per_second"] > 0


def test_tensorboard_has_every_tag(run: Finished) -> None:
    events = EventAccumulator(str(run.run_dir))
    events.Reload()
    per_task = [
        f"{group}/{network}"
        for group in ("losses", "weights", "ntk", "skipped")
        for network in NETWORKS
    ]
    per_task += ["skipped/transitions"]
    per_task += ["temperature", "entropy"]
    per_task += ["success_rate", "return"]
    single = [
        f"training_{group}/{network}"
        for group in ("gradient_norm", "minimum_cosine")
        for network in NETWORKS
    ]
    single += ["training/env_steps_per_second", "training/updates_per_second"]
    single += ["training/worker_restarts"]
    evaluated = ["success/mean", "task_return/mean"]
    evaluated += [
        f"{score}/{task}" for score in ("success_by_task", "task_return") for task in TASKS
    ]
    final = [f"success_{tag}" for tag in final_metrics([0.0])]
    trained = [f"{name}/{task}" for name in per_task for task in TASKS]
    expected = {*(f"training_{name}" for name in trained), *single, *evaluated, *final}
    assert set(events.Tags()["scalars"]) == expected
    losses = events.Scalars("training_losses/critic/reach-v3")
    assert [event.step for event in losses] == [15, 30, 45]
    assert [event.step for event in events.Scalars("success/mean")] == [30, 45]


def test_the_plots_are_among_tensorboards_images(run: Finished) -> None:
    events = EventAccumulator(str(run.run_dir))
    events.Reload()
    for path in (run.run_dir / "plots").iterdir():
        (image,) = events.Images(f"training_plots/{path.stem}")
        with Image.open(path) as drawn:
            assert (image.step, (image.width, image.height)) == (STEPS, drawn.size)


def newest(run_dir: Path) -> Checkpoint:
    return load_newest(run_dir / "checkpoint", replay=True).checkpoint


def test_the_checkpoint_is_the_agent_and_says_where_it_comes_from(run: Finished) -> None:
    checkpoint = newest(run.run_dir)
    metadata = checkpoint.metadata
    assert metadata["task_names"] == list(TASKS)
    assert metadata["protocol"] == protocol(run.config.env, run.config.evaluation)
    assert metadata["counters"]["vector_steps"] == STEPS
    assert metadata["counters"]["updates"] == STEPS - WARMSTART
    assert metadata["score"] == run.result.mean_success_rate
    assert metadata["config"] == to_dict(replace(run.config, run_dir=None))
    assert metadata["finished"]
    assert checkpoint.tensors["log_temperature"].shape == (len(TASKS),)


def test_the_agent_learns_while_the_environments_step(run: Finished) -> None:
    step = ["begin", "end", "add"]
    with_update = ["begin", "update", "end", "add"]
    assert run.trace.events == step * WARMSTART + with_update * (STEPS - WARMSTART)


def test_an_update_never_sees_the_transitions_of_its_own_step(run: Finished) -> None:
    before = [(step - 1) * COPIES for step in range(WARMSTART + 1, STEPS + 1)]
    assert run.trace.sizes == [[size] * len(TASKS) for size in before]


def test_only_the_first_update_of_a_row_is_diagnosed(run: Finished) -> None:
    updates = range(1, STEPS - WARMSTART + 1)
    assert run.trace.diagnosed == [update in (1, 6, 21) for update in updates]


def test_transitions_reach_the_replay_as_they_happened(run: Finished) -> None:
    trace = run.trace
    by_task = (len(TASKS), COPIES)
    for index, (observations, actions, rewards, following, terminated, valid) in enumerate(
        trace.added
    ):
        returned, stepped_rewards, terminations, truncations, infos = trace.results[index]
        next_rows = np.array(following).reshape(-1, OBSERVATION_DIM)
        assert truncations.all() == (index % HORIZON == HORIZON - 1)
        if truncations.any():
            np.testing.assert_array_equal(next_rows, infos["final_obs"])
            assert (next_rows != returned).any(axis=1).all()
        else:
            np.testing.assert_array_equal(next_rows, returned)
        if index:
            began = trace.results[index - 1][0]
            np.testing.assert_array_equal(observations, began.reshape(*by_task, -1))
        np.testing.assert_array_equal(actions, trace.actions[index].reshape(*by_task, -1))
        np.testing.assert_array_equal(rewards, stepped_rewards.reshape(by_task))
        np.testing.assert_array_equal(terminated, terminations.reshape(by_task))
        np.testing.assert_array_equal(valid, infos["valid"].reshape(by_task))
    assert len(trace.added) == STEPS


def test_the_policy_takes_over_after_the_warmstart(run: Finished) -> None:
    # Uniform actions have a standard deviation of 0.58 and keep it; the policy depends on them all.
    actions = np.stack(run.trace.actions)
    assert actions.shape == (STEPS, len(TASKS) * COPIES, ACTION_DIM)
    assert np.abs(actions).max() <= 1
    assert len(np.unique(actions[:, 0, 0])) == STEPS
    space = Box(-1.0, 1.0, actions.shape[1:], np.float32, seed=run.config.seed)
    np.testing.assert_array_equal(actions[:WARMSTART], [space.sample() for _ in range(WARMSTART)])
    assert (actions[WARMSTART] != space.sample()).all()


class StubEnvs:
    """Environments without a simulator: nothing ever happens in them."""

    num_tasks, envs_per_task, num_envs = len(TASKS), 1, len(TASKS)
    task_names = TASKS

    def __init__(self) -> None:
        self.action_space = Box(-1.0, 1.0, (self.num_envs, ACTION_DIM), np.float32, seed=0)
        self.closed = False
        self.pending_actions = None
        self._nothing = np.zeros((self.num_envs, OBSERVATION_DIM), np.float32)

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        del seed
        return self._nothing, {}

    def step_async(self, actions: NDArray[np.float32]) -> None:
        assert actions.shape == (self.num_envs, ACTION_DIM)

    def step_wait(self) -> tuple[Any, ...]:
        zeros, no = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, np.bool_)
        return self._nothing, zeros, no, no, {"success": zeros, "valid": ~no}

    def state(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self.closed = True


Outcome = tuple[list[dict[str, str]], dict[str, torch.Tensor]]
"""The rows of training.csv but for what measures time, and all tensors of the checkpoint."""


def outcome_of(run_dir: Path) -> Outcome:
    table = rows(run_dir / "training.csv")
    for row in table:
        for column in [name for name in row if name == "seconds" or "per_second" in name]:
            del row[column]
    return table, newest(run_dir).tensors


def train_only(patch: pytest.MonkeyPatch, config: RunConfig) -> Outcome:
    """Trains without plots and without evaluations, on which training must not depend."""
    zeros = np.zeros(len(TASKS))
    result = EvaluationResult(TASKS, zeros, zeros, episodes=1)
    patch.setattr(training, "plot_run", lambda _: [])
    patch.setattr(assembly, "make_evaluation_envs", lambda *_, **__: StubEnvs())
    patch.setattr(training_evaluation, "evaluate", lambda *_, **__: result)
    train(config)
    assert config.run_dir is not None
    return outcome_of(config.run_dir)


def assert_same(first: Outcome, second: Outcome) -> None:
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    for name, tensor in first[1].items():
        assert torch.equal(tensor, second[1][name]), name


def test_a_seed_repeats_its_run_with_or_without_evaluations(
    tmp_path: Path, run: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the global state must not matter
    again = train_only(monkeypatch, tiny(tmp_path / "run", copies=COPIES))
    assert_same(again, outcome_of(run.run_dir))


def test_another_seed_is_another_run(
    tmp_path: Path, run: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(tmp_path / "run", copies=COPIES, seed=2)
    table, tensors = train_only(monkeypatch, config)
    other_table, other_tensors = outcome_of(run.run_dir)
    for own, other in zip(table, other_table, strict=True):
        assert own["losses/critic/reach-v3"] != other["losses/critic/reach-v3"]
        assert own["losses/actor/drawer-close-v3"] != other["losses/actor/drawer-close-v3"]
    equal = [
        torch.equal(tensor, other_tensors[name])
        for name, tensor in tensors.items()
        if name.startswith("actor.") and name.endswith(".weight")
    ]
    assert equal
    assert not any(equal)


@dataclass
class Stubs:
    """The stand-ins of a run."""

    envs: StubEnvs
    updates: list[Batch]
    evaluation_envs: StubEnvs | None = None
    """Made for the first evaluation."""

    def make_evaluation_envs(self) -> StubEnvs:
        self.evaluation_envs = StubEnvs()
        return self.evaluation_envs

    @property
    def all_closed(self) -> bool:
        """Whether nothing that was made is open."""
        return self.envs.closed and (self.evaluation_envs is None or self.evaluation_envs.closed)


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    """Replaces all that takes time: environments, updates, evaluations and plots."""
    stubs = Stubs(StubEnvs(), [])
    zeros = np.zeros(len(TASKS))

    def update(_: MultiTaskSAC, batch: Batch, *_args: object, **_settings: object) -> Metrics:
        stubs.updates.append(batch)
        return {"entropy": torch.zeros(len(TASKS))}

    def evaluate(*_: object, **__: object) -> EvaluationResult:
        return EvaluationResult(TASKS, zeros, zeros, episodes=1)

    monkeypatch.setattr(assembly, "make_envs", lambda *_, **__: stubs.envs)
    monkeypatch.setattr(
        assembly, "make_evaluation_envs", lambda *_, **__: stubs.make_evaluation_envs()
    )
    monkeypatch.setattr(training_evaluation, "evaluate", evaluate)
    monkeypatch.setattr(training, "plot_run", lambda _: [])
    monkeypatch.setattr(assembly, "recorder_for", lambda *_, **__: None)
    monkeypatch.setattr(MultiTaskSAC, "update", update)
    yield stubs
    if stubs.evaluation_envs is not None:
        assert stubs.envs.closed == stubs.evaluation_envs.closed


def with_loop(run_dir: Path, **changes: Any) -> RunConfig:  # noqa: ANN401 - fields of many types
    config = tiny(run_dir)
    return replace(config, loop=replace(config.loop, **changes))


@pytest.mark.parametrize(
    ("ratio", "warmstart", "expected"),
    [
        (0.5, 10, {"30": "10", "45": "17"}),
        (1.0, 10, {"30": "20", "45": "35"}),
        (2.0, 10, {"30": "40", "45": "70"}),
        (1.5, 31, {"30": "0", "45": "21"}),
        (1.0, 45, {"30": "0", "45": "0"}),
    ],
)
def test_updates_follow_the_ratio_from_the_end_of_the_warmstart(
    tmp_path: Path, stubs: Stubs, ratio: float, warmstart: int, expected: dict[str, str]
) -> None:
    train(with_loop(tmp_path / "run", updates_per_step=ratio, warmstart_steps=warmstart))
    table = rows(tmp_path / "run" / "evaluation.csv")
    assert {row["vector_steps"]: row["updates"] for row in table} == expected
    assert len(stubs.updates) == int(expected["45"])


def test_batches_have_the_configured_size(tmp_path: Path, stubs: Stubs) -> None:
    train(with_loop(tmp_path / "run"))
    assert {batch.rewards.shape for batch in stubs.updates} == {(len(TASKS), 8)}


@pytest.mark.parametrize(("every", "steps"), [(15, [15, 30, 45]), (20, [20, 40, 45]), (99, [45])])
@pytest.mark.usefixtures("stubs")
def test_the_last_step_is_always_evaluated_and_never_twice(
    tmp_path: Path, every: int, steps: list[int]
) -> None:
    config = tiny(tmp_path / "run")
    train(replace(config, evaluation=replace(config.evaluation, evaluate_every=every)))
    table = rows(tmp_path / "run" / "evaluation.csv")
    assert [int(row["vector_steps"]) for row in table if row["task"] == "mean"] == steps


@pytest.mark.usefixtures("stubs")
def test_an_interval_without_updates_has_no_row(tmp_path: Path) -> None:
    train(with_loop(tmp_path / "run", log_every=5, warmstart_steps=30, updates_per_step=0.1))
    table = rows(tmp_path / "run" / "training.csv")
    assert [row["vector_steps"] for row in table] == ["40"]


def test_everything_is_closed_when_a_run_fails(
    tmp_path: Path, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MultiTaskSAC, "update", fail)
    with pytest.raises(KeyboardInterrupt):
        train(with_loop(tmp_path / "run"))
    assert stubs.all_closed


def test_everything_is_closed_when_a_run_ends(tmp_path: Path, stubs: Stubs) -> None:
    train(with_loop(tmp_path / "run"))
    assert stubs.evaluation_envs is not None
    assert stubs.all_closed


@pytest.mark.usefixtures("stubs")
def test_an_earlier_run_is_left_as_it_is(tmp_path: Path) -> None:
    train(with_loop(tmp_path / "run"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="already holds a run"):
        train(replace(with_loop(tmp_path / "run"), seed=2))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("stubs")
def test_runs_of_one_second_get_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(whole, "datetime", Standstill)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = replace(tiny(tmp_path), run_dir=None)
    for _ in range(2):
        train(config)
    with pytest.raises(UserError, match="device cuda is not available"):
        train(replace(config, device="cuda"))
    name = "ntkmtl-seed1-20260102-030405"
    assert {path.name for path in next(Path("runs").iterdir()).iterdir()} == {name, f"{name}-2"}


def test_a_replay_that_does_not_fit_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set --replay-capacity below"):
        train(with_loop(tmp_path / "run", replay_capacity=10**12))
    assert not (tmp_path / "run").exists()


def test_the_process_computes_afterwards_as_it_did_before(tmp_path: Path, stubs: Stubs) -> None:
    del stubs
    settings = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(3)
        torch.set_float32_matmul_precision("high")
        train(with_loop(tmp_path / "run"))
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (3, "high")
    finally:
        torch.set_num_threads(settings[0])
        torch.set_float32_matmul_precision(settings[1])


def last_success(config: RunConfig) -> float:
    return float(train(config).mean_success_rate)


def test_a_process_of_a_pool_can_train(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", workers=-1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert 0 <= pool.apply(last_success, [config]) <= 1
        with pytest.raises(ConfigError, match="workers is 2, but this process belongs to a pool"):
            pool.apply(last_success, [tiny(tmp_path / "other", workers=2)])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_start_that_fails_is_in_nobodys_way(
    tmp_path: Path, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    del stubs
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise MemoryError

        patch.setattr(assembly, "make_trainer", fail)
        with pytest.raises(MemoryError):
            train(with_loop(tmp_path / "a" / "run"))
    assert list(tmp_path.iterdir()) == []
    train(with_loop(tmp_path / "a" / "run"))


@pytest.mark.usefixtures("stubs")
def test_the_run_says_how_long_it_will_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(with_loop(tmp_path / "short"))
    assert "will take" not in capsys.readouterr().out
    train(with_loop(tmp_path / "long", total_steps=70))
    assert capsys.readouterr().out.count("This run will take about") == 1
