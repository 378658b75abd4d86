"""Whatever is written is as readable as the umask says: colleagues evaluate each other's runs."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mtrl_ntk import cli
from mtrl_ntk.experiment.sweeps import sweep as sweep_module
from mtrl_ntk.policy import export_policy
from tests.experiment.sweeps.made_sweeps import SETTINGS, FakeTraining
from tests.robustness.test_closed_output import TRAIN


@pytest.mark.parametrize("mask", [0o002, 0o077])
def test_all_commands(mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(command: Callable[[], None], *argv: str) -> None:
        monkeypatch.setattr(sys, "argv", [command.__name__, *argv])
        command()

    made = tmp_path / "made"
    made.mkdir()
    fake = FakeTraining(tmp_path / "training")
    run_sweep = partial(sweep_module.run_sweep, train=fake.command)
    monkeypatch.setattr(sweep_module, "run_sweep", run_sweep)
    monkeypatch.chdir(made)
    before = os.umask(mask)
    try:
        call(cli.train_mt10, *TRAIN, "--method=ntkmtl", "--kernel-every=10")
        call(cli.evaluate_mt10, "--run=run", "--episodes=1", "--workers=0")
        call(cli.report_mt10, "run", "--resamples=10")
        call(cli.report_mt10, "--kernels", "run", "--out=pictures")
        call(cli.sweep_mt10, "--methods=equal", "--out=sweep", *SETTINGS)
        export_policy("run", "policy.pt")
    finally:
        os.umask(before)
    # The runs of the sweep are copies of one that was made before.
    paths = [path for path in made.rglob("*") if "equal-seed1" not in path.parts]
    allowed = {path: (0o777 if path.is_dir() else 0o666) & ~mask for path in paths}
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {path: oct(mode) for path, mode in modes.items() if mode != allowed[path]} == {}
    assert {path.suffix for path in paths} >= {".safetensors", ".npz", ".png", ".html", ".pt"}
