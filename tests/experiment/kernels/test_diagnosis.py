"""Diagnoses come back as they were kept, and training does not notice them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from mtrl_ntk.balancing import Jacobian
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import RunConfig, from_dict
from mtrl_ntk.experiment.kernels.diagnosis import (
    PARTS,
    diagnose,
    load_diagnoses,
    save_diagnosis,
)
from mtrl_ntk.experiment.options.sections import EvaluationConfig, LoopConfig
from mtrl_ntk.experiment.training import kernel_diagnoses as training_kernels
from mtrl_ntk.experiment.training.assembly import make_loop
from mtrl_ntk.experiment.types import Counters
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.sac import SacConfig
from tests.experiment.diagnoses import MINIBATCHES, make_diagnosis

GROUPS = (("reach-v3", "push-v3"), ("drawer-close-v3",))
NAMES = [name for group in GROUPS for name in group]


def test_a_diagnosis_by_hand() -> None:
    rows = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, -1.0]]])
    diagnosis = diagnose(Jacobian(rows), ["a", "b"], Counters(7, 70, 3, seconds=1.0))
    assert diagnosis.task_names.tolist() == ["a", "b"]
    assert (diagnosis.vector_steps, diagnosis.env_steps, diagnosis.updates) == (7, 70, 3)
    assert diagnosis.extended_kernel[0, :, 1].tolist() == [[4, 0], [0, -1]]
    assert diagnosis.eigenvalues.tolist() == [[4, 1], [4, 1]]
    assert diagnosis.condition_numbers.tolist() == [4, 4]
    assert diagnosis.condition_number > 1e12, "two pairs of rows are parallel"
    assert diagnosis.imbalance == 1
    # The mean gradients are (1, 1/2) and (1, -1/2).
    assert diagnosis.affinity[0, 1] == pytest.approx(0.6)
    assert diagnosis.mean_affinity == pytest.approx(0.6)
    assert diagnosis.mean_coupling == pytest.approx(1.0)


def test_a_task_without_a_gradient_has_no_condition_and_spoils_nothing() -> None:
    rows = torch.randn(3, 2, 10)
    rows[1] = torch.nan
    diagnosis = diagnose(Jacobian(rows), ["a", "b", "c"], Counters(1, 1, 1, seconds=1.0))
    assert np.isnan(diagnosis.condition_numbers).tolist() == [False, True, False]
    assert diagnosis.affinity[1].tolist() == [0, 1, 0]
    numbers = {name: value for name, value in asdict(diagnosis).items() if name != "task_names"}
    del numbers["condition_numbers"]
    assert all(np.isfinite(value).all() for value in numbers.values())


def test_a_single_task_has_no_pairs() -> None:
    diagnosis = diagnose(Jacobian(torch.randn(1, 2, 10)), ["a"], Counters(1, 1, 1, seconds=1.0))
    assert diagnosis.affinity.tolist() == [[1]]
    assert np.isnan([diagnosis.mean_affinity, diagnosis.mean_coupling]).all()


def test_a_diagnosis_comes_back_as_it_was(tmp_path: Path) -> None:
    diagnosis = make_diagnosis(GROUPS)
    path = save_diagnosis(tmp_path, "critic", diagnosis)
    assert [file.name for file in (tmp_path / "kernels").iterdir()] == [path.name]
    (loaded,) = load_diagnoses(tmp_path, "critic")
    for name, value in asdict(diagnosis).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
        assert type(getattr(loaded, name)) is type(value)
    assert load_diagnoses(tmp_path, "actor") == []


def test_diagnoses_come_in_the_order_of_updates(tmp_path: Path) -> None:
    for updates in (200, 1_000_000_000, 3):
        save_diagnosis(tmp_path, "actor", make_diagnosis(GROUPS, updates))
    updates_of = [diagnosis.updates for diagnosis in load_diagnoses(tmp_path, "actor")]
    assert updates_of == [3, 200, 1_000_000_000]


def test_a_diagnosis_that_cannot_be_written_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space"):
        save_diagnosis(tmp_path, "critic", make_diagnosis(GROUPS))
    assert load_diagnoses(tmp_path, "critic") == []


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "foreign", "mismatched"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, damage: str) -> None:
    path = save_diagnosis(tmp_path, "critic", make_diagnosis(GROUPS))
    content = path.read_bytes()
    if damage == "foreign":
        np.savez(path, values=np.zeros(3))
    elif damage == "mismatched":
        one_less = replace(make_diagnosis(GROUPS), affinity=np.eye(2))
        save_diagnosis(tmp_path, "critic", one_less)
    else:
        path.write_bytes({"empty": b"", "text": b"text", "cut": content[:1000]}[damage])
    with pytest.raises(UserError, match=f"{path.name} is (damaged|no diagnosis)"):
        load_diagnoses(tmp_path, "critic")


def test_scalars_are_named_by_network_and_task() -> None:
    scalars = make_diagnosis(GROUPS).scalars("critic")
    single = ("condition_number", "imbalance", "mean_affinity", "mean_coupling")
    per_task = ("largest_eigenvalue", "condition_number")
    assert set(scalars) == {f"kernels/critic/{name}" for name in single} | {
        f"kernels/critic/{name}/{task}" for name in per_task for task in NAMES
    }
    assert all(isinstance(value, float) for value in scalars.values())


def tiny(run_dir: Path, method: str, **loop: int) -> RunConfig:
    return RunConfig(
        method=method,
        run_dir=run_dir,
        device="cpu",
        threads=1,
        env=EnvConfig(tasks=("reach-v3", "drawer-close-v3"), horizon=20, workers=0),
        sac=SacConfig(batch_size=8, width=16, depth=2),
        loop=LoopConfig(
            total_steps=25, warmstart_steps=10, replay_capacity=500, log_every=5, **loop
        ),
        evaluation=EvaluationConfig(evaluate_every=25, evaluation_episodes=1),
    )


def state_after(config: RunConfig) -> dict[str, Any]:
    """All that a run's training has led to, random streams included."""
    assert config.run_dir is not None
    with ExitStack() as stack:
        loop = make_loop(config, config.run_dir, torch.device("cpu"), stack)
        loop.begin(None)
        loop.run()
    agent, replay = loop.state.agent, loop.state.replay
    state: dict[str, Any] = {f"agent.{k}": v for k, v in agent.state_dict().items()}
    state |= {f"optimizer.{k}": v for k, v in agent.optimizer_state().items()}
    networks = (agent.actor, agent.critic)
    gradients = [p.grad for network in networks for p in network.parameters()]
    state |= {f"gradient.{index}": gradient for index, gradient in enumerate(gradients)}
    state["agent's stream"] = agent.generator.get_state()
    state["sampler's stream"] = replay.generator.get_state()
    state["replay"] = replay._rows
    state["global stream"] = torch.random.get_rng_state()
    return state


# Methods with nothing of their own, with noise from the agent's stream, with kept gradients.
@pytest.mark.parametrize(
    "method", ["moco", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ntkmtl", "rlw"))]
)
def test_training_is_the_same_bit_for_bit_with_and_without_diagnoses(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training_kernels, "affinity_image", lambda *_: np.zeros((2, 2, 3), np.uint8)
    )
    without = state_after(tiny(tmp_path / "without", method))
    diagnosed = state_after(tiny(tmp_path / "with", method, kernel_every=2, kernel_minibatches=4))
    assert without.keys() == diagnosed.keys()
    for name, tensor in without.items():
        assert torch.equal(tensor, diagnosed[name]), name
    assert not (tmp_path / "without" / "kernels").exists()
    events = EventAccumulator(str(tmp_path / "with"), size_guidance={"images": 0})
    events.Reload()
    for part in PARTS:
        steps = [event.step for event in events.Scalars(f"kernels/{part}/imbalance")]
        assert steps == [12, 14, 16, 18, 20, 22, 24]
        assert [image.step for image in events.Images(f"kernels/{part}/affinity")] == steps
        diagnoses = load_diagnoses(tmp_path / "with", part)
        assert [one.updates for one in diagnoses] == [2, 4, 6, 8, 10, 12, 14]
        assert {one.extended_kernel.shape for one in diagnoses} == {(2, 4, 2, 4)}
        assert all(one.eigenvalues.min() > 0 for one in diagnoses)


@pytest.mark.slow
def test_a_diagnosis_does_not_depend_on_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training_kernels, "affinity_image", lambda *_: np.zeros((2, 2, 3), np.uint8)
    )
    state_after(tiny(tmp_path / "often", "equal", kernel_every=3, kernel_minibatches=2))
    state_after(tiny(tmp_path / "seldom", "equal", kernel_every=6, kernel_minibatches=2))
    for part in PARTS:
        often = {one.updates: one for one in load_diagnoses(tmp_path / "often", part)}
        seldom = {one.updates: one for one in load_diagnoses(tmp_path / "seldom", part)}
        assert list(seldom) == [6, 12]
        for updates, one in seldom.items():
            np.testing.assert_array_equal(one.extended_kernel, often[updates].extended_kernel)
        assert not np.array_equal(often[3].extended_kernel, often[6].extended_kernel)


def test_impossible_diagnoses_are_refused_before_the_run() -> None:
    from_dict({"kernel_minibatches": 7})  # without diagnoses it does not matter
    with pytest.raises(UserError, match="kernel_minibatches is 7; it must divide batch_size, 128"):
        from_dict({"kernel_every": 10, "kernel_minibatches": 7})
    with pytest.raises(UserError, match="network independent shares nothing"):
        from_dict({"kernel_every": 10, "network": "independent", "method": "equal"})
    with pytest.raises(UserError, match="kernel_every is -1; it must be at least 0"):
        from_dict({"kernel_every": -1})


def test_every_task_has_as_many_rows_as_asked_for() -> None:
    assert make_diagnosis(GROUPS).eigenvalues.shape == (len(NAMES), MINIBATCHES)
