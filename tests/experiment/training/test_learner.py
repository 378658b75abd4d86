"""Recorded and compiled updates are those that an agent takes operation by operation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from mtrl_ntk.balancing.methods.equal import Equal
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.logs.metrics import MetricMeans
from mtrl_ntk.experiment.training.learner import Learner, compile_whole, recorder_for
from mtrl_ntk.rl.cuda_graph import CudaRecorder, Recorder
from mtrl_ntk.rl.host_graph import HostRecorder
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC, Noise, SacConfig
from mtrl_ntk.rl.types import Batch
from tests.device import (
    GeneratorForAnyDevice,
    forbid_host_synchronisation,
    forbid_stray_tensors,
)
from tests.recorder import OperationRecorder
from tests.rl.agents import COVERING, FEW, OPTIONS, TASKS, make_weighting

OBSERVATION, ACTION, ROWS = 5, 2, 8
every_option = pytest.mark.parametrize("settings", [{}, *OPTIONS.values()], ids=["", *OPTIONS])
every_few = pytest.mark.parametrize(("method", "network"), FEW)


class DoubleReplay(MultiTaskReplayBuffer):
    """Gives batches in double precision."""

    def gather(self, uniform: Tensor) -> Batch:
        """See :meth:`MultiTaskReplayBuffer.gather`."""
        return Batch(*map(Tensor.double, super().gather(uniform)))


def make_replay(device: str = "cpu", dtype: torch.dtype = torch.float32) -> MultiTaskReplayBuffer:
    replay = (DoubleReplay if dtype is torch.float64 else MultiTaskReplayBuffer)(
        TASKS,
        32,
        OBSERVATION,
        ACTION,
        device=torch.device(device),
        generator=torch.Generator("cpu").manual_seed(0),
    )
    add_transitions(replay, 20)
    return replay


def add_transitions(replay: MultiTaskReplayBuffer, copies: int) -> None:
    random = np.random.default_rng(int(replay.inserted.sum()))

    def draw(*shape: int) -> Any:  # noqa: ANN401
        return random.normal(size=(TASKS, copies, *shape)).astype(np.float32)

    ended = np.zeros((TASKS, copies), np.bool_)
    replay.add(draw(OBSERVATION), draw(ACTION), draw(), draw(OBSERVATION), ended)


def make_learner(
    method: str,
    network: str,
    recorder: Recorder | None = None,
    device: str = "cpu",
    *,
    joined: bool = False,
    dtype: torch.dtype = torch.float32,
    **settings: Any,  # noqa: ANN401
) -> Learner:
    settings = {"batch_size": ROWS, "width": 8, "depth": 2, **settings}
    config = SacConfig(network=network, **settings)
    agent = MultiTaskSAC(
        TASKS,
        OBSERVATION,
        ACTION,
        config=config,
        make_weighting=partial(make_weighting, method),
        seed=0,
        num_updates=8,
        device=device,
        dtype=dtype,
    )
    if joined:
        agent.join_critics()
    return Learner(agent, make_replay(device, dtype), MetricMeans(), recorder=recorder)


def everything(learner: Learner) -> dict[str, Tensor]:
    agent = learner.agent
    streams = {"agent": agent.generator, "replay": learner.replay.generator}
    return {
        **{name: tensor.clone() for name, tensor in agent.state_dict().items()},
        **{name: tensor.clone() for name, tensor in agent.optimizer_state().items()},
        **{name: generator.get_state() for name, generator in streams.items()},
    }


def assert_same(one: Learner, other: Learner) -> None:
    own, others = everything(one), everything(other)
    assert own.keys() == others.keys()
    assert [name for name in own if not torch.equal(own[name], others[name])] == []


def train(learner: Learner, intervals: int, updates: int = 6) -> list[dict[str, Any]]:
    """Updates while transitions come in; the metrics of each interval."""
    rows = []
    for _ in range(intervals):
        for _ in range(updates):
            learner.update()
            add_transitions(learner.replay, 1)
        rows.append({name: mean.tolist() for name, mean in learner.metrics.fetch().items()})
    return rows


def check_recording(
    method: str,
    network: str,
    updates: int = 5,
    *,
    joined: bool = True,  # as on a GPU
    **settings: Any,  # noqa: ANN401
) -> None:
    recorder = OperationRecorder()
    plain = make_learner(method, network, joined=joined, **settings)
    recorded = make_learner(method, network, recorder, joined=joined, **settings)
    assert train(plain, 2, updates) == train(recorded, 2, updates)
    assert_same(plain, recorded)
    assert len(recorder.replays) == 1


@every_few
@pytest.mark.parametrize("joined", [False, True])
def test_a_recorded_update_is_the_same_update(method: str, network: str, *, joined: bool) -> None:
    check_recording(method, network, joined=joined, policy_tau=0.5)


@every_few
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_can_be_recorded(method: str, network: str, option: str) -> None:
    check_recording(method, network, **OPTIONS[option])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network"), COVERING)
def test_every_method_can_be_recorded(method: str, network: str) -> None:
    check_recording(method, network, updates=4)
    check_recording(
        method, network, updates=4, joined=False, policy_tau=0.5, width=32, precision="bf16"
    )


def test_a_recording_sees_what_is_loaded() -> None:
    source = make_learner("ntkmtl", "shared")
    train(source, 1, updates=3)
    plain = make_learner("ntkmtl", "shared")
    recorded = make_learner("ntkmtl", "shared", OperationRecorder())
    for learner in (plain, recorded):
        train(learner, 2)
        learner.agent.load_state_dict(source.agent.state_dict())
        learner.agent.load_optimizer_state(source.agent.optimizer_state())
        learner.agent.reward_scale.factors.fill_(3.0)
        learner.agent.generator.set_state(source.agent.generator.get_state())
        learner.replay.generator.set_state(source.replay.generator.get_state())
    assert train(plain, 2) == train(recorded, 2)
    assert_same(plain, recorded)


def test_the_first_update_of_an_interval_is_diagnosed() -> None:
    learner = make_learner("ntkmtl", "shared", OperationRecorder())
    for row in train(learner, 3):
        assert "minimum_cosine/critic" in row


@pytest.mark.parametrize("recorder", [None, OperationRecorder()])
@every_option
def test_an_update_never_waits_for_the_device(
    recorder: OperationRecorder | None, settings: dict[str, Any]
) -> None:
    learner = make_learner("ntkmtl", "shared", recorder, **settings)
    with forbid_host_synchronisation():
        for _ in range(6):
            learner.update()


@every_few
@every_option
def test_an_update_keeps_to_its_device(
    method: str, network: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The meta device has no random streams: what is drawn is passed in.
    noise = make_learner(method, network).agent.draw_noise()
    monkeypatch.setattr(torch, "Generator", GeneratorForAnyDevice)
    learner = make_learner(method, network, device="meta", **settings)
    with forbid_stray_tensors():
        for _ in range(2):
            uniform = torch.empty(TASKS, ROWS, device="meta")
            learner.metrics.count(
                learner._learn_from(uniform, Noise(*(part.to("meta") for part in noise)))
            )
    assert {tensor.device.type for tensor in learner.metrics.state()["sums"].values()} == {"meta"}


def test_every_device_has_its_recorder() -> None:
    cpu, cuda, method = torch.device("cpu"), torch.device("cuda"), Equal
    assert isinstance(recorder_for(cpu, method), HostRecorder)
    assert recorder_for(cpu, method, compiled=True) is None
    assert isinstance(recorder_for(cuda, method, compiled=True), CudaRecorder)
    assert recorder_for(cuda, method, cuda_graph=False) is None
    assert recorder_for(torch.device("meta"), method) is None


def test_a_method_of_others_runs_as_it_is_on_the_cpu() -> None:
    class Counting(Equal):
        """Could look at a counter every hundredth time."""

    assert recorder_for(torch.device("cpu"), Counting) is None
    assert isinstance(recorder_for(torch.device("cuda"), Counting), CudaRecorder)


@every_few
def test_on_the_cpu_a_recording_is_not_given_up(method: str, network: str) -> None:
    check_repeating(method, network, policy_tau=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network"), COVERING)
def test_no_method_gives_up_a_recording(method: str, network: str) -> None:
    check_repeating(method, network)
    check_repeating(method, network, width=32, precision="bf16")


def check_repeating(method: str, network: str, **settings: Any) -> None:  # noqa: ANN401
    recorder = HostRecorder()
    train(make_learner(method, network, recorder, **settings), 2)
    assert [replay.repeats for replay in recorder.replays] == [True]


def test_what_cannot_be_compiled_is_one_line() -> None:
    def refuse(*_: object) -> object:
        raise RuntimeError("no compiler here")

    learner = make_learner("equal", "shared")

    def learn(uniform: Tensor, _: Noise) -> tuple[str, ...]:
        uniform.add_(1)
        return ()

    compiled = compile_whole(learn, refuse)
    with pytest.raises(UserError, match=r"--no-compile .*no compiler here"):
        compiled(torch.zeros(2), learner.agent.draw_noise())


def differing(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> list[str]:
    """Names of the numbers that are apart by more than a share of their norm."""
    assert found.keys() == expected.keys()
    return [
        name
        for name, other in ((name, torch.as_tensor(value)) for name, value in expected.items())
        if (torch.as_tensor(found[name]).double() - other.double()).norm()
        > tolerance * other.double().norm() * other.is_floating_point()
    ]


def check_compiled(
    method: str,
    network: str,
    backend: str,
    *,
    tolerance: float = 1e-9,
    dtype: torch.dtype = torch.float64,
    **settings: Any,  # noqa: ANN401
) -> None:
    # A compiler puts operands elsewhere, and a product may round by where they lie: in double
    # precision all that is not rounding is far above it.
    torch._dynamo.reset()
    plain, compiled = (make_learner(method, network, dtype=dtype, **settings) for _ in range(2))
    for learner in (plain, compiled):
        learner.update()
    graphs = CompileCounterWithBackend(backend)
    compiled._learn = compile_whole(compiled._learn, graphs)
    with torch._dynamo.config.patch(error_on_recompile=True):
        rows = train(compiled, 2, 3)
    for found, expected in zip(rows, train(plain, 2, 3), strict=True):
        assert differing(found, expected, tolerance) == []
    assert differing(everything(compiled), everything(plain), tolerance) == []
    assert graphs.frame_count  # more than once if the compiler starts anew


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "network", "backend", "joined"),
    [
        ("ntkmtl", "shared", "aot_eager", True),
        ("famo", "task_embedding", "eager", True),
        ("ntkmtl_sr", "multi_head", "eager", False),
        ("equal", "independent", "eager", False),
    ],
)
def test_the_whole_update_compiles_as_one_graph(
    method: str, network: str, backend: str, *, joined: bool
) -> None:
    check_compiled(method, network, backend, joined=joined)


@pytest.mark.slow
@every_few
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_compiles_as_one_graph(method: str, network: str, option: str) -> None:
    check_compiled(method, network, "eager", **OPTIONS[option])


def test_an_update_in_bf16_can_be_recorded() -> None:
    check_recording("ntkmtl", "shared", precision="bf16", critic_layer_norm=True)


@pytest.mark.slow
def test_an_update_in_bf16_compiles_as_one_graph() -> None:
    # Autocast leaves doubles as they are.
    settings = {"precision": "bf16", "depth": 1}
    check_compiled("ntkmtl", "shared", "aot_eager", dtype=torch.float32, tolerance=0.01, **settings)
