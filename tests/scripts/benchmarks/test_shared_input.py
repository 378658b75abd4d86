"""The benchmark of one input for all tasks runs, and its ways go to gradients of all parameters."""

from __future__ import annotations

import pytest

from mtrl_ntk.balancing.methods import METHODS
from scripts.benchmarks.shared_input import Steps, main


def test_all_ways_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tasks", "2", "--rows", "8", "--width", "4", "--rounds", "1"])
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["plain sum", "ntkmtl_sr", "si", "ntkmtl", "upgrad"]


@pytest.mark.parametrize("method", ["ntkmtl_sr", "equal"])
def test_every_way_gives_all_parameters_gradients(method: str) -> None:
    steps = Steps(tasks=2, rows=8, width=4)
    for way in (steps.plain, steps.balanced(METHODS[method](2))):
        way()
        assert all(parameter.grad is not None for parameter in steps.network.parameters())
