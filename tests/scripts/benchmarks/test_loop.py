"""The benchmark of the loop: what it writes, what it times, and its exit codes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtrl_ntk.experiment.training import assembly
from mtrl_ntk.experiment.training.loop import TrainingLoop
from mtrl_ntk.rl.envs import MultiTaskVectorEnv
from mtrl_ntk.rl.sac import MultiTaskSAC, Noise
from mtrl_ntk.rl.types import Batch
from scripts.benchmarks.loop import (
    BenchOptions,
    Gflops,
    LoopTimes,
    TimedTrainer,
    gflops_row,
    iteration_row,
    main,
    measure_gflops,
    measure_rounds,
    timed_loop,
)

TASK = "drawer-close-v3"
TINY = ["--tasks", TASK, "--rows", "4", "--width", "16", "--block", "2", "--rounds", "2"]
ROWS, BLOCK = 4, 2


def test_writes_a_row_for_the_loop_and_one_for_the_update(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    threads = torch.get_num_threads()
    assert main([*TINY, "--workers", "0", "--threads", "1", "--json", str(path)]) == 0
    loop, speed = json.loads(path.read_text())
    assert (loop["what"], loop["workers"], loop["threads"]) == ("iteration", 0, 1)
    assert speed["what"] == "gflops"
    positive = ("ratio", "milliseconds", "env_milliseconds", "update_milliseconds", "cores")
    assert all(loop[name] > 0 for name in positive)
    assert all(value > 0 for name, value in speed.items() if name != "what")
    assert "medians of 2 and 2 rounds" in " ".join(capsys.readouterr().out.split())
    assert torch.get_num_threads() == threads


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What environments and agent are asked, in order."""
    names: list[str] = []
    step, update = MultiTaskVectorEnv.step_async, MultiTaskSAC.update

    def traced_step(envs: MultiTaskVectorEnv, actions: NDArray[np.float32]) -> None:
        names.append("step")
        step(envs, actions)

    def traced_update(
        agent: MultiTaskSAC, batch: Batch, noise: Noise | None = None, *, diagnose: bool = False
    ) -> object:
        names.append("update")
        return update(agent, batch, noise, diagnose=diagnose)

    monkeypatch.setattr(MultiTaskVectorEnv, "step_async", traced_step)
    monkeypatch.setattr(MultiTaskSAC, "update", traced_update)
    return names


@pytest.fixture
def timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[TrainingLoop, TimedTrainer]]:
    # What is recorded runs no Python, and these tests listen to it.
    monkeypatch.setattr(assembly, "recorder_for", lambda *_, **__: None)
    chosen = BenchOptions(tasks=(TASK,), rows=ROWS, width=16, workers=0)
    with ExitStack() as stack:
        numbers = iter(range(-1, 2))
        yield timed_loop(chosen.run_config(tmp_path), tmp_path, stack, BLOCK, numbers)


def test_iterations_steps_and_updates_take_turns(
    timed: tuple[TrainingLoop, TimedTrainer], events: list[str]
) -> None:
    loop, trainer = timed
    rounds = measure_rounds(loop, trainer)
    one_round = ["step", "update"] * BLOCK + ["step"] * BLOCK + ["update"] * BLOCK
    assert events == ["step"] * ROWS + one_round * 3
    # The first round does not count.
    assert len(rounds) == 2
    assert all(min(times) > 0 for times in rounds)
    # To the loop it is as if nothing had happened between its iterations.
    clock = trainer.clock
    assert clock.step == ROWS + 3 * BLOCK
    assert clock.updates == clock.step - ROWS
    assert trainer.learner.replay.inserted.tolist() == [clock.step]


def test_what_is_timed_alone_is_timed_alone(
    timed: tuple[TrainingLoop, TimedTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, update = MultiTaskVectorEnv.step_wait, MultiTaskSAC.update
    clock = 0.0

    def slow_step(envs: MultiTaskVectorEnv) -> object:
        nonlocal clock
        clock += 1
        return step(envs)

    def slow_update(
        agent: MultiTaskSAC, batch: Batch, noise: Noise | None = None, *, diagnose: bool = False
    ) -> object:
        nonlocal clock
        clock += 4
        return update(agent, batch, noise, diagnose=diagnose)

    monkeypatch.setattr(MultiTaskVectorEnv, "step_wait", slow_step)
    monkeypatch.setattr(MultiTaskSAC, "update", slow_update)
    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    assert measure_rounds(*timed) == [LoopTimes(iteration=5.0, env=1.0, update=4.0)] * 2


def test_an_iteration_is_compared_with_the_slower_part_of_its_round() -> None:
    rounds = [LoopTimes(3.0, 1.0, 2.0), LoopTimes(60.0, 30.0, 10.0), LoopTimes(8.0, 8.0, 1.0)]
    row = iteration_row(rounds, workers=2, threads=3)
    assert row["ratio"] == 1.5
    found = [row[name] for name in ("milliseconds", "env_milliseconds", "update_milliseconds")]
    assert found == [8e3, 8e3, 2e3]
    assert (row["workers"], row["threads"]) == (2, 3)


def test_an_update_is_compared_with_its_fastest_product_within_rounds() -> None:
    rounds = [
        Gflops(8e9, (10e9, 9e9)),
        Gflops(5e9, (20e9, 5e9)),
        Gflops(9e9, (10e9, 30e9)),
    ]
    row = gflops_row(rounds, flops=10**9)
    assert row["ratio"] == 0.8
    assert (row["gflops"], row["ceiling_gflops"], row["gflop_per_update"]) == (8, 10, 1)


def test_a_quick_run_measures_at_least_once() -> None:
    chosen = BenchOptions(tasks=(TASK,), rows=ROWS, width=16, rounds=5)
    assert len(measure_gflops(chosen, time.monotonic())[0]) == 1
    assert len(measure_gflops(chosen, math.inf)[0]) == 5
