"""Trained agents: found wherever they are named, asked only what they can be asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.agents import (
    Trained,
    load_trained,
    places_of,
    policy_of,
    policy_on,
    sampled_policy,
)
from mtrl_ntk.experiment.checkpoints.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM
from mtrl_ntk.rl.types import FloatArray
from tests.saved import CONFIG, STEPS, TASKS, save_run

COPIES = 4


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    save_run(folder, steps=3)
    save_run(folder)
    return folder


@pytest.fixture(scope="module")
def trained(run_dir: Path) -> Trained:
    return load_trained(run_dir)


def observations(tasks: int = len(TASKS)) -> FloatArray:
    shape = (tasks, COPIES, OBSERVATION_DIM)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_a_run_stands_for_its_newest_checkpoint(run_dir: Path, trained: Trained) -> None:
    assert trained.folder == run_dir / "checkpoint" / f"step-{STEPS:09d}"
    assert trained.metadata["counters"]["vector_steps"] == STEPS
    assert trained.task_names == TASKS
    assert trained.config == CONFIG
    assert trained.home == run_dir
    saved = load_checkpoint(trained.folder).tensors
    own = trained.actor.state_dict()
    assert all(torch.equal(value, saved[f"average_actor.{name}"]) for name, value in own.items())


@pytest.mark.parametrize("inside", ["", "manifest.json", "weights.safetensors"])
def test_a_checkpoint_is_its_folder_or_a_file_in_it(run_dir: Path, inside: str) -> None:
    trained = load_trained(run_dir / "checkpoint" / "step-000000003" / inside)
    assert trained.metadata["counters"]["vector_steps"] == 3
    assert trained.home == run_dir


def test_the_folder_of_checkpoints_stands_for_the_newest(run_dir: Path) -> None:
    assert load_trained(run_dir / "checkpoint").metadata["counters"]["vector_steps"] == STEPS


def test_checkpoints_of_a_run_have_names(run_dir: Path, tmp_path: Path) -> None:
    newest = f"step-{STEPS:09d}"
    for name in ("step-000000003", newest):
        assert load_trained(run_dir, checkpoint=name).folder.name == name
    assert load_trained(run_dir, checkpoint="last").folder.name == newest
    with pytest.raises(UserError, match="no checkpoint 'best'; possible: last, step-000000003, "):
        load_trained(run_dir, checkpoint="best")
    shutil.copytree(run_dir, tmp_path / "run")
    for step, success in ((3, 0.9), (STEPS, 0.8)):
        path = tmp_path / "run" / "checkpoint" / f"step-{step:09d}"
        saved = load_checkpoint(path)
        save_checkpoint(path, saved.tensors, {**saved.metadata, "score": success})
    assert load_trained(tmp_path / "run", checkpoint="best").folder.name == "step-000000003"
    assert load_trained(tmp_path / "run").folder.name == newest


def test_a_checkpoint_needs_nothing_around_it(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir / "checkpoint" / "step-000000003", tmp_path / "alone")
    trained = load_trained(tmp_path / "alone")
    assert trained.config == CONFIG
    assert trained.home == tmp_path


def test_what_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; give the folder of a run"):
        load_trained(tmp_path / "nothing")


def test_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run with checkpoints nor a checkpoint"):
        load_trained(tmp_path)


def test_a_checkpoint_without_its_settings_is_an_error(tmp_path: Path, trained: Trained) -> None:
    save_checkpoint(tmp_path / "c", trained.actor.state_dict(), {})
    with pytest.raises(CheckpointError, match="does not say what kind of agent"):
        load_trained(tmp_path / "c")


@pytest.mark.parametrize(
    ("tasks", "places"),
    [
        (TASKS, [0, 1, 2]),
        (("push-v3", "reach-v3"), [2, 0]),
        (("push-v3", "reach-v3", "drawer-close-v3"), [2, 0, 1]),
        (("assembly-v3", "basketball-v3", "reach-v3"), [0, 1, 2]),
    ],
)
def test_tasks_are_found_by_name_or_take_the_places_in_order(
    tasks: tuple[str, ...], places: list[int]
) -> None:
    assert places_of(tasks, TASKS) == places


def test_other_tasks_of_another_number_are_refused() -> None:
    with pytest.raises(UserError, match=r"not trained on assembly-v3.*3 tasks.*not 2") as error:
        places_of(("reach-v3", "assembly-v3"), TASKS)
    assert ", ".join(TASKS) in str(error.value)


def test_the_policy_on_all_tasks_is_the_evaluated_one(trained: Trained) -> None:
    policy = policy_on(trained, TASKS, sampled=False, seed=0)
    usual = policy_of(trained.actor)
    np.testing.assert_array_equal(policy(observations()), usual(observations()))
    np.testing.assert_array_equal(
        policy(observations()),
        trained.actor.mode(torch.from_numpy(observations())).detach(),
    )


def test_the_policy_on_some_tasks_is_that_of_these_tasks(trained: Trained) -> None:
    some = policy_on(trained, ("push-v3", "reach-v3"), sampled=False, seed=0)
    everywhere = np.repeat(observations(1), len(TASKS), axis=0)
    of_all = policy_of(trained.actor)(everywhere)
    np.testing.assert_allclose(some(everywhere[:2]), of_all[[2, 0]], rtol=1e-6)
    assert np.abs(of_all[2] - of_all[0]).max() > 1e-3


def test_samples_repeat_with_their_seed_and_spread_around_the_mode(trained: Trained) -> None:
    first, again, other = (sampled_policy(trained.actor, seed) for seed in (1, 1, 2))
    actions = first(observations())
    assert actions.shape == (len(TASKS), COPIES, ACTION_DIM)
    assert np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions, again(observations()))
    assert (actions != other(observations())).any()
    assert (first(observations()) != actions).any()
    with torch.no_grad():
        # Small ones, for which the tanh does not saturate.
        mean, log_std = trained.actor(torch.from_numpy(0.05 * observations()))
        low, mode, high = ((mean + k * log_std.exp()).tanh().numpy() for k in (-1, 0, 1))
    many = np.stack([first(0.05 * observations()) for _ in range(400)])
    assert (many < mode).mean() == pytest.approx(0.5, abs=0.02)
    assert ((low < many) & (many < high)).mean() == pytest.approx(0.683, abs=0.02)


def test_samples_leave_the_global_stream_alone(trained: Trained) -> None:
    before = torch.get_rng_state()
    sampled_policy(trained.actor, 1)(observations())
    assert torch.equal(before, torch.get_rng_state())
