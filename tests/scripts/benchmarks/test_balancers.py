"""The comparison with other libraries runs, and all of them come to the same gradients."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch.testing import assert_close

from scripts.benchmarks.balancers import LIBRARIES, directions, fresh, main, num_lines, own, plain
from scripts.benchmarks.shared_input import TRUNKS, Steps

TINY = ["--tasks", "3", "--rows", "4", "--width", "4", "--rounds", "1"]
installed = [name for name in LIBRARIES if find_spec(name)]


def test_all_that_is_installed_is_compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    monkeypatch.setattr("scripts.benchmarks.balancers.directions", compared.append)
    main(TINY)
    shown = capsys.readouterr().out
    assert all(f"{name}  " in shown for name in ("plain sum", "own", *installed))
    assert compared == [3] * ("torchjd" in installed)


def test_directions_agree_where_settings_are_alike(capsys: pytest.CaptureFixture[str]) -> None:
    directions(tasks=4, repeats=1)
    for line in capsys.readouterr().out.splitlines():
        if "reg_eps=1e-12" in line or "gramian_ridge" in line or "aligned" in line:
            assert float(line.split()[-1]) < 1e-12


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("library", installed)
def test_gradients_of_what_is_shared_are_alike(library: str, trunk: str) -> None:
    steps = Steps(tasks=3, rows=4, width=4, trunk=trunk)
    steps.network.eval()  # which has no running statistics to move
    found = []
    for make in (own, LIBRARIES[library]):
        fresh(make, steps)()
        grads = [p.grad for p in steps.network.trunk.parameters() if p.grad is not None]
        found.append(torch.cat([each.flatten() for each in grads]))
    assert_close(found[1], found[0], rtol=1e-3, atol=1e-3 * float(found[0].abs().max()))
    assert num_lines(LIBRARIES[library]) > num_lines(own) > num_lines(plain)
