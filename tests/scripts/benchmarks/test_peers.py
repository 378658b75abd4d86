"""The comparison with peers: what it writes, that all take the same step, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.benchmarks import peers as bench_peers
from scripts.benchmarks.peers import OURS, PEERS, BenchOptions, main, summarize

TINY = ["--tasks", "2", "--rows", "8", "--width", "16", "--rounds", "1", "--envs", "1"]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_writes_one_row_per_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    assert main([*TINY, "--workers", "0", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [row["what"] for row in rows] == list(PEERS)
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
    missing = ("torchjd", "stable_baselines3")
    monkeypatch.setattr(
        bench_peers, "find_spec", lambda name: None if name in missing else find_spec(name)
    )
    path = tmp_path / "bench.json"
    peers = "vmap,autojac,autogram,stable_baselines3"
    assert main([*TINY, "--peers", peers, "--json", str(path)]) == 0
    assert [row["what"] for row in json.loads(path.read_text())] == ["vmap"]
    lines = capsys.readouterr().out.replace("\n", " ")
    for name, package in [("autojac", "torchjd"), ("stable_baselines3", "stable_baselines3")]:
        assert f"skipped {name}: {package} is not installed" in lines


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


def test_environments_are_those_of_mt10_first() -> None:
    names = BenchOptions(envs=12).env_names
    assert len(set(names)) == 12
    assert names[:10] == BenchOptions().env_names
