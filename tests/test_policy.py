"""Policies for other programs: the trained actions, for any task, from any file."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import metaworld  # noqa: F401 - registers its environments
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mtrl_ntk
from mtrl_ntk import Policy, export_policy, load_policy
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.checkpoints.resume import find_start
from mtrl_ntk.rl.networks import NETWORK_KINDS
from mtrl_ntk.rl.sac import MultiTaskSAC
from tests.saved import CONFIG, TASKS, save_run

Saved = tuple[Path, MultiTaskSAC]
ROWS = 7


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("policy") / "run"
    return folder, save_run(folder)


@pytest.fixture(scope="module")
def policy(saved: Saved) -> Policy:
    return load_policy(saved[0])


def observations(rows: int = ROWS) -> NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal((rows, 39))


def expected(agent: MultiTaskSAC, rows: NDArray[np.float64], task: int) -> NDArray[np.float32]:
    """Actions that an evaluation would take in a task."""
    of_all = np.zeros((len(TASKS), *rows.shape), np.float32)
    of_all[task] = rows
    actions = agent.act(torch.from_numpy(of_all), deterministic=True)
    own: NDArray[np.float32] = actions[task].numpy()
    return own


@pytest.mark.parametrize("task", range(len(TASKS)))
def test_actions_are_those_of_an_evaluation(saved: Saved, policy: Policy, task: int) -> None:
    rows = observations()
    actions = policy(rows, task=TASKS[task])
    assert actions.shape == (ROWS, 4)
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions, expected(saved[1], rows, task), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(actions, policy(rows, task=task))
    np.testing.assert_array_equal(actions, policy(rows, task=np.int64(task)))
    others = {tuple(policy(rows[0], task=other)) for other in TASKS}
    assert len(others) == len(TASKS)


def test_predict_is_that_of_stable_baselines3(saved: Saved, policy: Policy) -> None:
    rows, state = observations(), (np.zeros(3),)
    for given in (rows, rows[0], rows[:0]):
        actions, after = policy.predict(given, state, np.zeros(1), task="push-v3")
        np.testing.assert_array_equal(actions, policy(given, task="push-v3"))
        assert after is state
    drawing = load_policy(saved[0], task=0, deterministic=False, seed=3)
    mode, none = drawing.predict(rows, deterministic=True)
    np.testing.assert_array_equal(mode, policy(rows, task=0))
    assert none is None
    drawn = drawing.predict(rows)[0]
    assert (drawn != mode).all()
    again = load_policy(saved[0], task=0, seed=3).predict(rows, deterministic=False)[0]
    np.testing.assert_array_equal(again, drawn)


class Still(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Ten steps in which nothing moves, worth the first entry of the action."""

    observation_space = gymnasium.spaces.Box(-1, 1, (39,))
    action_space = gymnasium.spaces.Box(-1, 1, (4,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._left = 10
        return np.zeros(39, np.float32), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return np.zeros(39, np.float32), float(action[0]), False, self._left == 0, {}


@pytest.mark.filterwarnings("ignore")  # of the other library
def test_stable_baselines3_evaluates_it_as_a_model(saved: Saved) -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    monitor = pytest.importorskip("stable_baselines3.common.monitor")
    policy = load_policy(saved[0], task="push-v3")
    env = monitor.Monitor(Still())
    rewards, lengths = evaluation.evaluate_policy(policy, env, 2, return_episode_rewards=True)
    assert lengths == [10, 10]
    assert rewards == pytest.approx([10 * policy(np.zeros(39))[0]] * 2, rel=1e-5)


def test_it_says_what_it_is(saved: Saved, policy: Policy) -> None:
    text = repr(policy)
    assert text.startswith("Policy(equal, seed 5, after 7 steps, ")
    assert all(word in text for word in (str(saved[0]), "named by each call", "mode", *TASKS))
    drawing = repr(load_policy(saved[0], task=2, deterministic=False))
    assert f"task: {TASKS[2]}; actions: sampled" in drawing


def test_a_checkpoint_is_chosen_by_name(saved: Saved, tmp_path: Path) -> None:
    load_policy(saved[0], checkpoint="step-000000007")
    with pytest.raises(UserError, match="no checkpoint 'best'; possible: last, step-000000007"):
        load_policy(saved[0], checkpoint="best")
    with pytest.raises(UserError, match="no checkpoint 'first'"):
        export_policy(saved[0], tmp_path / "a.pt", checkpoint="first")


def test_a_single_observation_gives_a_single_action(policy: Policy) -> None:
    rows = observations()
    action = policy(rows[2], task="push-v3")
    assert action.shape == (4,)
    np.testing.assert_allclose(action, policy(rows, task="push-v3")[2], rtol=1e-5, atol=1e-6)
    assert policy(rows[:1], task="push-v3").shape == (1, 4)
    assert policy(rows[:0], task="push-v3").shape == (0, 4)


def test_each_row_may_have_a_task_of_its_own(policy: Policy) -> None:
    rows = observations(3)
    actions = policy(rows, task=["push-v3", 0, "drawer-close-v3"])
    for row, task, action in zip(rows, (2, 0, 1), actions, strict=True):
        np.testing.assert_allclose(action, policy(row, task=task), rtol=1e-5, atol=1e-6)


def test_the_task_can_be_named_once(saved: Saved, policy: Policy) -> None:
    once = load_policy(saved[0], task="push-v3")
    rows = observations()
    np.testing.assert_array_equal(once(rows), policy(rows, task="push-v3"))
    np.testing.assert_array_equal(once(rows, task=0), policy(rows, task=0))


def test_samples_repeat_with_their_seed(saved: Saved) -> None:
    first, again, other = (
        load_policy(saved[0], task=0, deterministic=False, seed=seed) for seed in (1, 1, 2)
    )
    actions = first(observations())
    np.testing.assert_array_equal(actions, again(observations()))
    assert (actions != other(observations())).any()
    assert (actions != first(observations())).any()
    assert np.abs(actions).max() <= 1


def read_only(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    single = rows.astype(np.float32)
    single.flags.writeable = False
    return single


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows[::-1].copy()[::-1],
        lambda rows: rows.astype(np.float32)[:, ::-1].copy()[:, ::-1],
        lambda rows: np.repeat(rows, 2, axis=0)[::2],
        lambda rows: np.asfortranarray(rows, np.float32),
        lambda rows: rows.astype(">f8"),
        lambda rows: rows.tolist(),
        read_only,
    ],
    ids=["reversed", "mirrored", "every other", "fortran", "big-endian", "list", "read-only"],
)
def test_observations_may_lie_in_memory_as_they_like(
    saved: Saved, form: Callable[[NDArray[np.float64]], Any], *, deterministic: bool
) -> None:
    plain, other = (load_policy(saved[0], task=1, deterministic=deterministic) for _ in range(2))
    rows = observations()
    actions = other(form(rows))
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, plain(rows))
    np.testing.assert_array_equal(rows, observations())


@pytest.mark.parametrize("deterministic", [True, False])
def test_actions_are_float32_whatever_the_default(saved: Saved, *, deterministic: bool) -> None:
    plain = load_policy(saved[0], task=1, deterministic=deterministic)(observations())
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        actions = load_policy(saved[0], task=1, deterministic=deterministic)(observations())
    finally:
        torch.set_default_dtype(before)
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, plain)


@pytest.mark.parametrize(
    ("rows", "task", "said"),
    [
        (np.zeros(39), None, "task is missing; possible: reach-v3, drawer-close-v3, push-v3"),
        (np.zeros(39), "reach-v2", "did you mean reach-v3"),
        (np.zeros(39), 3, "task is 3; it must be from 0 to 2"),
        (np.zeros(39), -1, "task is -1"),
        (np.zeros((2, 39)), [0], "there are 1 tasks for 2 observations"),
        (np.zeros(49), 0, r"shape \(49,\); .* without a one-hot task id"),
        (np.zeros((2, 2, 39)), 0, r"shape \(2, 2, 39\)"),
        (np.zeros(()), 0, r"shape \(\)"),
    ],
)
def test_a_mistake_is_said(
    policy: Policy, rows: NDArray[np.float64], task: str | int | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        policy(rows, task=task)


def test_a_mistake_in_the_default_task_is_said_when_loading(saved: Saved) -> None:
    with pytest.raises(ValueError, match="does not know the task 'window'"):
        load_policy(saved[0], task="window")


def test_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run"):
        load_policy(tmp_path)


def test_the_only_task_need_not_be_named(tmp_path: Path) -> None:
    alone = replace(CONFIG, env=replace(CONFIG.env, tasks=("reach-v3",)))
    save_run(tmp_path / "run", alone)
    assert load_policy(tmp_path / "run")(observations()).shape == (ROWS, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the library about its own spaces
def test_a_plain_gymnasium_loop_works(saved: Saved) -> None:
    policy = load_policy(saved[0], task="reach-v3")
    env = gymnasium.make("Meta-World/MT1", env_name="reach-v3", seed=1)
    observation, _ = env.reset()
    for _ in range(5):
        action = policy(observation)
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, info = env.step(action)
        assert math.isfinite(reward)
        assert not terminated
        assert not truncated
        assert "success" in info
    env.close()


# Exports


KINDS: dict[str, dict[str, Any]] = {
    **{kind: {"network": kind} for kind in NETWORK_KINDS},
    "residual": {"actor_blocks": "residual"},
}


def run_of_kind(folder: Path, kind: str) -> Path:
    save_run(folder, replace(CONFIG, sac=replace(CONFIG.sac, **KINDS[kind])))
    return folder


@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_torchscript_acts_as_the_policy_does(tmp_path: Path, kind: str) -> None:
    run_dir = run_of_kind(tmp_path / "run", kind)
    out = tmp_path / "new" / "policy.pt"
    assert export_policy(run_dir, out) == out
    assert list(out.parent.iterdir()) == [out]
    extra = {"tasks.json": ""}
    module = torch.jit.load(str(out), _extra_files=extra)
    assert json.loads(extra["tasks.json"]) == list(TASKS)
    policy = load_policy(run_dir)
    for num_rows in (1, 2, len(TASKS), 6):
        rows, tasks = observations(num_rows), np.arange(num_rows) % len(TASKS)
        actions = module(torch.from_numpy(rows).float(), torch.from_numpy(tasks))
        assert not actions.requires_grad
        expected = policy(rows, task=list(tasks))
        np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_acts_as_the_policy_does(tmp_path: Path, kind: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    from onnx.reference import ReferenceEvaluator

    run_dir = run_of_kind(tmp_path / "run", kind)
    out = export_policy(run_dir, tmp_path / "new" / "policy.onnx")
    assert list(out.parent.iterdir()) == [out]
    model = onnx.load(str(out))
    onnx.checker.check_model(model)
    (names,) = (entry.value for entry in model.metadata_props if entry.key == "tasks")
    assert json.loads(names) == list(TASKS)
    session, policy = ReferenceEvaluator(model), load_policy(run_dir)
    for num_rows in (1, 2, len(TASKS), 6):
        rows, tasks = observations(num_rows), np.arange(num_rows) % len(TASKS)
        inputs = {"observations": rows.astype(np.float32), "tasks": tasks}
        outputs: Any = session.run(None, inputs)
        actions = outputs[0]
        assert actions.dtype == np.float32
        np.testing.assert_allclose(actions, policy(rows, task=list(tasks)), atol=1e-5)


def test_another_ending_is_an_error_and_leaves_nothing(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has to end in \.pt or \.onnx.*, or in nothing"):
        export_policy(saved[0], tmp_path / "policy.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy_tau", [1.0, 0.5])
def test_a_policy_alone_is_a_checkpoint(tmp_path: Path, kind: str, policy_tau: float) -> None:
    sac = replace(CONFIG.sac, **KINDS[kind], policy_tau=policy_tau)
    elsewhere = replace(CONFIG, sac=sac, run_dir=tmp_path / "run", plugin=(tmp_path / "mine.py",))
    agent = save_run(tmp_path / "run", elsewhere)
    out = export_policy(tmp_path / "run", tmp_path / "new" / "policy")
    assert {path.name for path in out.iterdir()} == {"manifest.json", "weights.safetensors"}
    size = sum(tensor.nbytes for tensor in agent.average_actor.state_dict().values())
    assert size < (out / "weights.safetensors").stat().st_size < size + 2000
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    rows, tasks = observations(), np.arange(ROWS) % len(TASKS)
    again = export_policy(out, tmp_path / "again")
    for folder in (out, again):
        actions = load_policy(folder)(rows, task=list(tasks))
        np.testing.assert_array_equal(actions, load_policy(tmp_path / "run")(rows, list(tasks)))
    # Training needs more, and says so.
    with pytest.raises(UserError, match="holds an agent only: no run can go on from it"):
        find_start(replace(elsewhere, resume=out))


def test_a_folder_that_holds_anything_is_not_overwritten(saved: Saved, tmp_path: Path) -> None:
    (checkpoint,) = (saved[0] / "checkpoint").iterdir()
    (tmp_path / "file").touch()
    for out in (checkpoint, saved[0], tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="exists and is not an empty folder"):
            export_policy(saved[0], out)
    load_policy(checkpoint)
    (tmp_path / "empty").mkdir()
    load_policy(export_policy(saved[0], tmp_path / "empty"))


def test_one_comes_with_the_package(tmp_path: Path) -> None:
    policy = load_policy("pretrained:mt10", task="reach-v3")
    assert "pretrained:mt10" in repr(policy)
    assert len(policy.task_names) == 10
    export_policy("pretrained:mt10", tmp_path / "mine")
    rows = observations()
    np.testing.assert_array_equal(load_policy(tmp_path / "mine", task=0)(rows), policy(rows))
    with pytest.raises(UserError, match="no pretrained policy 'mt11'"):
        load_policy("pretrained:mt11")


def test_without_onnx_its_packages_are_named(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install onnx onnxscript"):
        export_policy(saved[0], tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


# The package


def test_the_package_offers_these_names() -> None:
    assert mtrl_ntk.load_policy is load_policy
    with pytest.raises(AttributeError, match="no attribute 'load_polcy'"):
        _ = mtrl_ntk.load_polcy


def test_importing_the_package_waits_for_nothing_heavy() -> None:
    program = "import sys, mtrl_ntk\nassert not {'torch', 'numpy', 'mujoco'} & sys.modules.keys()\n"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])
