"""The sweeps of the study: each is possible as it stands, and together they miss no method."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment.sweeps.options import read_sweep
from mtrl_ntk.experiment.sweeps.runs import SweepRun, plan_runs
from mtrl_ntk.supervised.sweep import SUPERVISED_SWEPT

STUDY = Path(__file__).resolve().parents[1] / "configs" / "study"
SWEEPS = sorted(STUDY.glob("*.yaml"))
SUPERVISED = sorted(STUDY.glob("supervised/*.yaml"))


@cache
def runs(path: Path) -> list[SweepRun]:
    if path in SUPERVISED:
        return plan_runs(read_sweep([f"--sweep={path}"], "sweep_supervised"), SUPERVISED_SWEPT)
    return plan_runs(read_sweep([f"--sweep={path}"], "sweep_mt10"))


def test_together_the_sweeps_train_every_method_at_least_five_times() -> None:
    seeds: dict[str, set[int]] = {}
    for path in SWEEPS:
        if not re.match("tuning|ablations|additions", path.stem):
            for run in runs(path):
                seeds.setdefault(run.config.method, set()).add(run.config.seed)
    assert seeds.keys() == METHODS.keys()
    assert all({1, 2, 3, 4, 5} <= of for of in seeds.values())


def test_every_method_learns_from_the_scenes_with_three_seeds() -> None:
    trained = {
        (run.config.method, run.config.seed) for run in runs(STUDY / "supervised/scenes.yaml")
    }
    assert trained == {(method, seed) for method in METHODS for seed in (1, 2, 3)}


def test_no_two_sweeps_share_a_folder_and_tuning_shares_no_seed() -> None:
    folders = [run.folder for path in SWEEPS + SUPERVISED for run in runs(path)]
    assert len(set(folders)) == len(folders)
    tuned, short = (
        {run.config.seed for run in runs(STUDY / f"{name}.yaml")} for name in ("tuning", "main")
    )
    assert not tuned & short


def test_every_sweep_says_what_it_is_for() -> None:
    assert SWEEPS
    assert SUPERVISED
    files = [path.read_text(encoding="utf-8") for path in SWEEPS + SUPERVISED]
    assert all(text.startswith("# ") for text in files)
