"""The benchmark of one input for all tasks runs, and its ways go to gradients of all parameters."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from mtrl_ntk.balancing.methods import METHODS
from scripts.benchmarks.shared_input import TRUNKS, Steps, main, peak


def test_all_ways_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tasks", "2", "--rows", "8", "--width", "4", "--rounds", "1"])
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["plain sum", "ntkmtl_sr", "si", "ntkmtl", "upgrad"]


def test_the_network_of_celeba_is_measured_with_every_method(tmp_path: Path) -> None:
    sizes = ["--tasks", "3", "--rows", "4", "--width", "1", "--rounds", "1"]
    main(["--trunk", "cnn9", *sizes, "--csv", str(tmp_path / "times.csv")])
    with (tmp_path / "times.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["way"] for row in rows] == ["plain sum", *METHODS]
    assert all(float(row[name]) > 0 for row in rows for name in ("ratio", "megabytes"))


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("method", ["ntkmtl_sr", "equal"])
def test_every_way_gives_all_parameters_gradients(method: str, trunk: str) -> None:
    steps = Steps(tasks=2, rows=8, width=4, trunk=trunk)
    for way in (steps.plain, steps.balanced(METHODS[method](2))):
        way()
        assert all(parameter.grad is not None for parameter in steps.network.parameters())


def test_memory_is_the_most_that_is_held_at_once() -> None:
    layer = nn.Linear(1000, 1000, bias=False)

    def way() -> None:
        inputs = torch.zeros(1000, 1000)
        layer(inputs).sum().backward()

    # The inputs, what is made of them, and the weight's gradient.
    assert peak(lambda: way, layer) == pytest.approx(12e6, rel=0.1)
