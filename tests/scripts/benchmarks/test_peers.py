"""The comparison with peers: what it writes, that all take the same step, and its exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from scripts.benchmarks import peers as bench_peers
from scripts.benchmarks.agents import Size
from scripts.benchmarks.peer_envs import EnvPools
from scripts.benchmarks.peer_steps import (
    AutogramStep,
    AutojacStep,
    CriticStep,
    OwnStep,
    SequentialStep,
    StableBaselinesUpdate,
    VmapStep,
)
from scripts.benchmarks.peers import ENVPOOL, OURS, PEERS, BenchOptions, main, summarize

TINY = ["--tasks", "2", "--rows", "8", "--width", "16", "--rounds", "1", "--envs", "1"]
SIZE = Size(tasks=3, rows=8, width=16, depth=2)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_writes_one_row_per_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    assert main([*TINY, "--workers", "0", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    peers = [name for name in PEERS if name != ENVPOOL or find_spec("envpool")]
    assert [row["what"] for row in rows] == peers
    numbers = ("ratio", "milliseconds", "own_milliseconds")
    assert all(set(row) == {"what", "contest", *numbers} for row in rows)
    assert all(row[number] > 0 for row in rows for number in numbers)
    shown = capsys.readouterr().out
    assert all(name in shown for name in PEERS)


def test_only_the_peers_asked_for_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    assert main([*TINY, "--peers", "vmap,sequential", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [(row["contest"], row["what"]) for row in rows] == [
        ("critic", "sequential"),
        ("critic", "vmap"),
    ]


def test_what_is_not_installed_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ("torchjd", "stable_baselines3", "envpool")
    monkeypatch.setattr(
        bench_peers, "find_spec", lambda name: None if name in missing else find_spec(name)
    )
    path = tmp_path / "bench.json"
    peers = "vmap,autojac,autogram,stable_baselines3,EnvPool"
    assert main([*TINY, "--peers", peers, "--json", str(path)]) == 0
    assert [row["what"] for row in json.loads(path.read_text())] == ["vmap"]
    lines = capsys.readouterr().out.replace("\n", " ")
    for name, package in [("autojac", "torchjd"), ("stable_baselines3", "stable_baselines3")]:
        assert f"skipped {name}: {package} is not installed" in lines
    assert "skipped EnvPool: envpool is not installed; pip install envpool" in lines


@pytest.mark.parametrize("peer", [SequentialStep, VmapStep, AutojacStep, AutogramStep])
def test_a_peer_takes_the_same_steps(peer: type[CriticStep]) -> None:
    own, other = OwnStep(SIZE), peer(SIZE)
    start = [parameter.clone() for parameter in own.parameters]
    assert_close(start, [parameter.clone() for parameter in other.parameters], atol=0, rtol=0)
    for _ in range(3):
        own.step()
        other.step()
    assert not any(torch.equal(*pair) for pair in zip(start, own.parameters, strict=True))
    # Adam's first steps are of full size even where a gradient is rounding alone.
    assert_close(other.parameters, own.parameters, atol=2e-5, rtol=1e-3)


def test_the_steps_are_weighted() -> None:
    own = OwnStep(SIZE)
    own.targets[0] *= 100
    losses = own.task_losses()
    norms = [
        sum(g.square().sum() for g in torch.autograd.grad(loss, own.parameters, retain_graph=True))
        for loss in losses
    ]
    weights = own.weigh(torch.stack([torch.as_tensor(norm) for norm in norms]))
    assert weights[0] < 0.1 * weights[1:].min()


def test_stable_baselines_learns_from_a_network_and_a_batch_of_the_same_size() -> None:
    pytest.importorskip("stable_baselines3")
    peer = StableBaselinesUpdate(SIZE)
    memory = peer.model.replay_buffer
    assert memory is not None
    assert memory.size() == SIZE.tasks * SIZE.rows
    critic = OwnStep(SIZE).critic
    shapes = [parameter.shape for parameter in peer.model.critic.parameters()]
    assert shapes == [parameter.shape for parameter in critic.parameters()]
    before = [parameter.clone() for parameter in peer.model.policy.parameters()]
    peer.step()
    after = list(peer.model.policy.parameters())
    changed = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert all(changed)


def test_a_ratio_compares_within_rounds() -> None:
    rounds = [
        {OURS: base, "vmap": cost * base} for base, cost in [(1.0, 2.0), (100.0, 1.0), (10.0, 3.0)]
    ]
    (row,) = summarize(rounds)
    assert (row["what"], row["contest"], row["ratio"]) == ("vmap", "critic", 2.0)
    assert (row["milliseconds"], row["own_milliseconds"]) == (30e3, 10e3)


def test_a_vector_step_is_timed_whatever_the_number_of_environments() -> None:
    class Env:
        num_envs = 4

        def step(self, actions: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
            assert actions.shape == (4, 4)

    assert 0 < bench_peers.seconds_per_step(Env()) < 1e-2  # type: ignore[arg-type]


class Pool:
    """What is used of an EnvPool."""

    def __init__(self, name: str) -> None:
        self.done = [f"made {name}"]

    def reset(self) -> None:
        self.done.append("reset")

    def send(self, action: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]) -> None:
        assert action.shape == (1, 4)
        self.done.append(f"sent {ids.tolist()}")

    def recv(self) -> None:
        self.done.append("received")

    def close(self) -> None:
        self.done.append("closed")


def test_envpool_steps_every_task_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Pool] = []

    def make(name: str, **options: int) -> Pool:
        assert options == {"num_envs": 1, "num_threads": 1, "seed": 0}
        made.append(Pool(name))
        return made[-1]

    monkeypatch.setitem(sys.modules, "envpool", SimpleNamespace(make_gymnasium=make))
    pools = EnvPools(["reach-v3", "button-press-topdown-v3"])
    pools.step(np.zeros((2, 4), np.float32))
    pools.close()
    names = ["MetaWorld/Reach-v3", "MetaWorld/ButtonPressTopdown-v3"]
    steps = ["reset", "sent [0]", "received", "closed"]
    assert [pool.done for pool in made] == [[f"made {name}", *steps] for name in names]


def test_environments_are_those_of_mt10_first() -> None:
    names = BenchOptions(envs=12).env_names
    assert len(set(names)) == 12
    assert names[:10] == BenchOptions().env_names
