"""The benchmark of checkpoints measures every kind of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.options.sections import LoopConfig
from mtrl_ntk.rl.sac import SacConfig
from scripts.benchmarks.checkpoints import measure


def test_it_prints_what_each_kind_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sac = SacConfig(batch_size=4, width=8, depth=1)
    config = replace(RunConfig(), sac=sac, loop=LoopConfig(replay_capacity=2_000))
    measure(config, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "saving",
        "first, 2000 transitions per task",
        "400 transitions per task later",
        "20 transitions per task later",
        "20 transitions per task later",
        "2 transitions per task later",
        "loading",
        "agent and hashes of everything",
        "replay",
    ]
    # 336 bytes for each of 2 000 transitions of ten tasks, and a small agent.
    assert 6.6 < float(lines[1].split()[-2]) < 7.5
