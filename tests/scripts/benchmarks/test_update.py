"""The benchmark of an update: what it writes, what it compares with, and its exit codes."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
import torch

from mtrl_ntk.balancing.methods import METHODS
from scripts.benchmarks import update as bench_update
from scripts.benchmarks.agents import Size, Variant
from scripts.benchmarks.update import (
    NETWORKS,
    PARTS,
    BenchOptions,
    Setting,
    UpdateRow,
    main,
    paced,
    summarize,
)

TINY = ["--tasks", "2", "--rows", "8", "--width", "16", "--rounds", "1"]
SIZE = Size(tasks=2, rows=8, width=16)
ON_SHARED = [
    name for name, method in METHODS.items() if name != "equal" and not method.needs_representation
]


def rows_of(path: Path, *argv: str) -> list[UpdateRow]:
    assert main([*TINY, "--json", str(path / "bench.json"), *argv]) == 0
    rows: list[UpdateRow] = json.loads((path / "bench.json").read_text())
    return rows


def test_writes_one_row_per_method_and_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(tmp_path)
    for row in rows:
        constant = {"network": "shared", "tasks": 2, "rows": 8, "n": 1, "precision": "float32"}
        measured = {"method", "part", "ratio", "ratio_to_equal", "milliseconds"}
        assert set(row) == measured | set(constant)
        assert constant.items() <= row.items()
        assert min(row["ratio"], row["ratio_to_equal"], row["milliseconds"]) > 0
        assert row["ratio"] == 1.0 or row["method"] != "plain"
        assert row["ratio_to_equal"] == 1.0 or row["method"] != "equal"
    names = ["plain", "equal", *ON_SHARED, "sequential"]
    assert [(row["method"], row["part"]) for row in rows] == [
        (method, part) for method in names for part in ("critic", "actor", "update")
    ]
    lines = capsys.readouterr().out
    assert all(name in lines for name in names)


def test_measures_on_every_network_what_fits_it(tmp_path: Path) -> None:
    methods = "ntkmtl_sr,ntkmtl,sequential"
    rows = rows_of(tmp_path, "--networks", ",".join(NETWORKS), "--methods", methods)
    found: dict[str, list[str]] = {network: [] for network in NETWORKS}
    for row in rows[:: len(PARTS)]:
        found[row["network"]].append(row["method"])
    assert found == {
        "shared": ["plain", "equal", "ntkmtl", "sequential"],
        "task_embedding": ["plain", "equal", "ntkmtl"],
        "multi_head": ["plain", "equal", "ntkmtl_sr", "ntkmtl"],
        "independent": ["plain", "equal"],
    }


def test_a_ratio_compares_within_rounds() -> None:
    plain, equal, ntkmtl = Variant("plain"), Variant("equal"), Variant("ntkmtl")
    rounds = [
        {
            plain: dict.fromkeys(PARTS, base),
            equal: dict.fromkeys(PARTS, 2 * base),
            ntkmtl: dict.fromkeys(PARTS, base) | {"critic": cost * base},
        }
        for base, cost in [(1.0, 2.0), (100.0, 1.0), (10.0, 3.0)]
    ]
    rounds.append({plain: dict.fromkeys(PARTS, 1e6), equal: dict.fromkeys(PARTS, 2e6)})
    rows = summarize({Setting("shared", SIZE): rounds}, BenchOptions(methods=("ntkmtl",)))
    found = {
        (row["method"], row["part"]): (row["ratio"], row["ratio_to_equal"], row["milliseconds"])
        for row in rows
    }
    assert found["ntkmtl", "critic"] == (2.0, 1.0, 30.0)
    assert found["ntkmtl", "actor"] == (1.0, 0.5, 10.0)
    assert found["plain", "critic"] == (1.0, 0.5, 55.0)


def test_only_methods_with_mini_batches_are_measured_for_each_number(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "--methods", "ntkmtl,sequential,dwa", "--minibatches", "2,4,2")
    assert [(row["method"], row["n"]) for row in rows[:: len(PARTS)]] == [
        *[("plain", 1), ("equal", 1), ("ntkmtl", 2), ("ntkmtl", 4)],
        *[("sequential", 2), ("sequential", 4), ("dwa", 1)],
    ]


@pytest.mark.parametrize(
    ("kernel", "labels"),
    [
        (("loss",), ["ntkmtl", "ntkmtl", "sequential", "sequential"]),
        (("output",), ["ntkmtl_output"]),
        (("loss", "output"), ["ntkmtl", "ntkmtl", "ntkmtl_output", "sequential", "sequential"]),
    ],
)
def test_kernels_of_outputs_have_a_name_and_no_mini_batches(
    kernel: tuple[str, ...], labels: list[str]
) -> None:
    chosen = BenchOptions(
        methods=("ntkmtl", "sequential"), kernel=kernel, minibatches=(1, 4), size=SIZE
    )
    found = chosen.variants("shared")[2:]
    assert [variant.label for variant in found] == labels
    assert all(variant.n == 1 for variant in found if variant.kernel == "output")


def test_cuda_is_refused_where_there_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--device", "cuda"]) == 2
    assert "not available" in capsys.readouterr().err


def test_rounds_end_before_the_deadline_but_one_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert list(paced(range(-1, 3), math.inf)) == [-1, 0, 1, 2]
    assert list(paced(range(-1, 3), time.monotonic())) == [-1, 0]
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    started = []
    for number in paced(range(-1, 3), 8.0):
        started.append(number)
        clock[0] += 3.0
    assert started == [-1, 0]


def test_sequential_takes_part_in_every_other_round() -> None:
    chosen = BenchOptions(size=SIZE, methods=("sequential",), rounds=3)
    rounds = bench_update.measure(chosen)[Setting("shared", SIZE)]
    assert [Variant("sequential") in times for times in rounds] == [True, False, True]


def test_a_quick_run_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_update, "_QUICK_SECONDS", 0.0)
    chosen = BenchOptions(size=SIZE, quick=True)
    (times,) = bench_update.measure(chosen)[Setting("shared", SIZE)]
    assert set(times) == set(chosen.variants("shared"))


def test_every_precision_is_compared_with_float32(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "--methods", "ntkmtl", "--precision", "bf16")
    assert [(row["method"], row["precision"]) for row in rows[:: len(PARTS)]] == [
        *[("plain", "float32"), ("equal", "float32")],
        *[("plain", "bf16"), ("equal", "bf16"), ("ntkmtl", "bf16")],
    ]
    assert rows[0]["ratio"] == rows[3]["ratio_to_equal"] == 1.0


def test_each_number_of_tasks_is_measured(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "--methods", "ntkmtl,sequential", "--scale", "1,3")
    assert [row["tasks"] for row in rows[:: len(PARTS)]] == [1] * 4 + [3] * 4
