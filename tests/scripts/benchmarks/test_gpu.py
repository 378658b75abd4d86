"""The benchmark of updates on a GPU, as far as a CPU can run it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtrl_ntk.errors import ConfigError
from scripts.benchmarks import gpu as bench_gpu, gpu_updates as bench_gpu_updates
from scripts.benchmarks.agents import Size
from scripts.benchmarks.gpu import BenchOptions, GpuRow, main, measure_all, rows_of, table
from scripts.benchmarks.gpu_updates import Cost, Setting
from tests.recorder import OperationRecorder

CPU = torch.device("cpu")
SIZE = Size(tasks=2, rows=8, width=16, depth=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu_updates, "_TRANSITIONS", 20)
    monkeypatch.setattr(bench_gpu, "best_rate", lambda *_: 1e9)


def measured(
    messages: list[str], ways: tuple[str, ...], methods: tuple[str, ...] = ("ntkmtl",)
) -> list[GpuRow]:
    chosen = BenchOptions(
        SIZE, methods=methods, ways=ways, precision=("float32",), updates=2, rounds=2
    )
    return measure_all(chosen, CPU, OperationRecorder(), messages.append)


def test_without_cuda_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert not torch.cuda.is_available()
    assert main(["--quick"]) == 2
    assert capsys.readouterr().err == (
        "scripts.benchmarks.gpu: error: there is no CUDA device here, "
        "and this measures nothing else\n"
    )


@pytest.mark.slow
def test_every_way_is_measured_with_every_method() -> None:
    messages: list[str] = []
    rows = measured(messages, ways=("eager", "graphed"))
    assert [(row["way"], row["method"]) for row in rows] == [
        (way, method) for way in ("eager", "graphed") for method in ("plain", "equal", "ntkmtl")
    ]
    for row in rows:
        assert row["updates_per_second"] == pytest.approx(1e3 / row["milliseconds"])
        assert row["kernels"] > 100
        if row["method"] in ("plain", "equal"):
            assert row["ratio" if row["method"] == "plain" else "ratio_to_equal"] == 1
    assert len(messages) == 1
    assert table(rows).row_count == len(rows)


def test_ratios_are_those_of_the_same_round_and_limits_those_of_the_device() -> None:
    costs = {
        "plain": Cost([1.0, 2.0, 4.0], 100, 10**9, 1.0),
        "equal": Cost([2.0, 2.0, 2.0], 100, 10**9, 1.0),
        "ntkmtl": Cost([3.0, 3.0, 4.0], 200, 2 * 10**9, 1.0),
    }
    chosen = BenchOptions(SIZE)
    for graphed, launch in ((False, 5e-6), (True, 1e-6)):
        setting = Setting("tf32", "graphed" if graphed else "eager")
        row = rows_of(setting, costs, chosen, rate=1e12, device="GPU")[2]
        assert (row["ratio"], row["ratio_to_equal"]) == (1.5, 1.5)
        assert row["over_launch_limit"] == pytest.approx(3 / (200 * launch))
        assert row["over_arithmetic_limit"] == pytest.approx(3 / 2e-3)


def test_a_quick_run_compiles_nothing() -> None:
    quick = BenchOptions(json=Path("rows.json")).shortened
    assert quick.ways == ("eager", "graphed")
    assert quick.precision == ("float32", "tf32")
    assert quick.updates * quick.rounds <= 150
    assert quick.json == Path("rows.json")


def test_a_method_must_fit_the_network() -> None:
    with pytest.raises(ConfigError, match="method pcgrad cannot balance"):
        BenchOptions(network="independent", methods=("pcgrad",))


def test_a_way_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(OperationRecorder, "record", refuse)
    messages: list[str] = []
    rows = measured(messages, ways=("eager", "graphed"), methods=("equal",))
    assert {row["way"] for row in rows} == {"eager"}
    assert messages[-1] == (
        "float32, graphed: failed: operation not permitted when stream is capturing"
    )
