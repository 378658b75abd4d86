"""Diagnoses of kernels while a run goes on: they change nothing of it, and not one another."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.config import RunConfig, from_dict
from mtrl_ntk.experiment.kernels.diagnosis import (
    PARTS,
    load_diagnoses,
)
from mtrl_ntk.experiment.options.sections import EvaluationConfig, LoopConfig
from mtrl_ntk.experiment.training import kernel_diagnoses as training_kernels
from mtrl_ntk.experiment.training.assembly import make_loop
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.sac import SacConfig
from tests.experiment.diagnoses import MINIBATCHES, make_diagnosis

GROUPS = (("reach-v3", "push-v3"), ("drawer-close-v3",))


NAMES = [name for group in GROUPS for name in group]


def tiny(run_dir: Path, method: str, **loop: Any) -> RunConfig:  # noqa: ANN401 - many types
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
    assert replay is not None
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
        steps = [event.step for event in events.Scalars(f"training_kernels/{part}/imbalance")]
        assert steps == [12, 14, 16, 18, 20, 22, 24]
        assert [image.step for image in events.Images(f"training_kernels/{part}/affinity")] == steps
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
