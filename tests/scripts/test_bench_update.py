"""The benchmark of an update: what it writes, what it compares with, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from mtrl_ntk.balancing.methods import METHODS
from scripts import bench_update
from scripts.bench_update import BenchOptions, PlainSAC, main, make_agent, make_batch

TINY = ["--tasks", "2", "--rows", "8", "--width", "16", "--rounds", "2"]
CPU = torch.device("cpu")


def test_writes_one_row_per_method_and_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    assert main([*TINY, "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    for row in rows:
        constant = {"network": "shared", "tasks": 2, "rows": 8, "n": 1}
        measured = {"method", "part", "ratio", "milliseconds"}
        assert set(row) == measured | set(constant)
        assert {name: row[name] for name in constant} == constant
        assert row["ratio"] > 0
        assert row["milliseconds"] > 0
        assert row["ratio"] == 1.0 or row["method"] != "plain"
    assert [(row["method"], row["part"]) for row in rows] == [
        (method, part)
        for method in ("plain", *METHODS, "sequential")
        for part in ("critic", "actor", "update")
    ]
    lines = capsys.readouterr().out
    assert all(method in lines for method in ("plain", *METHODS, "sequential"))


def test_a_ratio_compares_within_rounds() -> None:
    rounds = [
        {"plain": dict.fromkeys(bench_update.PARTS, base), "ntkmtl": {"critic": cost * base} | rest}
        for base, cost in [(1.0, 2.0), (100.0, 1.0), (10.0, 3.0)]
        for rest in [dict.fromkeys(("actor", "update"), base)]
    ]
    rounds.append({"plain": dict.fromkeys(bench_update.PARTS, 1e6)})
    rows = bench_update.summarize(rounds, BenchOptions(methods=("ntkmtl",)))
    found = {(row["method"], row["part"]): (row["ratio"], row["milliseconds"]) for row in rows}
    assert found["ntkmtl", "critic"] == (2.0, 30.0)
    assert found["ntkmtl", "actor"] == (1.0, 10.0)
    assert found["plain", "critic"] == (1.0, 55.0)


def test_only_the_methods_asked_for_and_plain_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    assert main([*TINY, "--methods", "ntkmtl", "--minibatches", "4", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert {(row["method"], row["n"]) for row in rows} == {("plain", 4), ("ntkmtl", 4)}


def test_methods_that_have_mini_batches_get_the_number() -> None:
    chosen = BenchOptions(tasks=2, rows=8, width=16, minibatches=4)
    agents = {name: make_agent(name, chosen, CPU) for name in ("ntkmtl", "sequential", "equal")}
    numbers = {
        name: agent.critic_balancer.weighting.num_minibatches for name, agent in agents.items()
    }
    assert numbers == {"ntkmtl": 4, "sequential": 4, "equal": 1}


def test_plain_learns_what_equal_weights_learn() -> None:
    chosen = BenchOptions(tasks=2, rows=8, width=16)
    batch = make_batch(chosen, CPU)
    plain, equal = (make_agent(name, chosen, CPU) for name in ("plain", "equal"))
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    for _ in range(3):
        plain.update(batch)
        equal.update(batch)
    after = plain.state_dict()
    assert not any(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert_close(after, equal.state_dict(), atol=2e-5, rtol=1e-3)


def test_plain_refuses_to_run_through_a_tape() -> None:
    chosen = BenchOptions(tasks=2, rows=8, width=16)
    agent = make_agent("plain", chosen, CPU)
    assert isinstance(agent, PlainSAC)
    agent.critic._forward_pre_hooks.clear()
    with pytest.raises(RuntimeError, match="tape"):
        agent.update(make_batch(chosen, CPU))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--rows", "0"], "rows is 0"),
        (["--rows", "x"], "--rows is 'x'"),
        (["--rounds", "-1"], "rounds is -1"),
        (["--minibatches", "3"], "must divide 128 rows"),
        (["--methods", "ntkmlt"], "did you mean ntkmtl?"),
        (["--device", "tpu"], "one of auto, cpu, cuda"),
        (["--json", "nowhere/bench.json"], "its folder does not exist"),
        (["--widht", "3"], "did you mean --width?"),
        (["extra"], "'extra'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert main(argv) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("bench_update.py: error: ")
    assert errors.count("\n") == 1
    assert said in errors


def test_cuda_is_refused_where_there_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--device", "cuda"]) == 2
    assert "not available" in capsys.readouterr().err


def test_quick_stops_in_time_but_not_before_three_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_update, "_QUICK_SECONDS", 0.0)
    chosen = BenchOptions(tasks=2, rows=8, width=16, rounds=6, quick=True)
    rounds = bench_update.measure(chosen)
    assert [len(times) for times in rounds] == [len(METHODS) + 1 + odd for odd in (1, 0, 1)]
