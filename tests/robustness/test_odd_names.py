"""Files and folders may be named as they like, and the home folder may be called ~."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mtrl_ntk import cli
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.sweeps import sweep as sweep_module
from mtrl_ntk.policy import export_policy, load_policy
from tests.experiment.run_folders import write_methods
from tests.experiment.sweeps.made_sweeps import SETTINGS, FakeTraining
from tests.robustness.test_closed_output import TRAIN

NAMES = ("c,d", "a b [bold] (1)", "x=y:z;%d", "a$b^$", "#{é}'")


def call(command: Callable[[], None], *argv: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [command.__name__, *argv])
        command()


pytestmark = pytest.mark.usefixtures("no_plots", "undrawn")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    fake = FakeTraining(tmp_path_factory.mktemp("sweeps") / "training")
    run_sweep = partial(sweep_module.run_sweep, train=fake.command)
    monkeypatch.setattr(sweep_module, "run_sweep", run_sweep)
    return fake


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_any_name(name: str, fake: FakeTraining) -> None:
    Path(f"{name}.yaml").write_text("horizon: 10\n")
    call(cli.train_mt10, *TRAIN[:-1], f"--config={name}.yaml", f"--run-dir={name}")
    call(cli.evaluate_mt10, f"--run={name}", "--episodes=1", "--workers=0", f"--out={name}/out")
    assert Path(name, "out", "evaluation.json").is_file()
    assert load_policy(name)(np.zeros(39)).shape == (4,)
    call(cli.report_mt10, "--kernels", name, f"--out={name}/pictures")
    assert Path(name, "pictures", "eigenvalues.png").is_file()
    write_methods(Path(f"{name} runs"), {"equal": 0.5}, seeds=[1])
    call(cli.report_mt10, f"{name} runs", "--resamples=10", f"--out={name} report")
    assert Path(f"{name} report", "report.md").is_file()
    call(cli.sweep_mt10, "--methods=equal", f"--out={name} sweep", *SETTINGS)
    assert list(fake.events("ended")) == ["equal-seed1"]


NO_TEXT = "a\udcff"
"""What Python makes of a name that is no UTF-8."""


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (cli.train_mt10, "--run-dir="),
        (cli.evaluate_mt10, "--run="),
        (cli.sweep_mt10, "--out="),
        (cli.report_mt10, "--kernels="),
        (cli.report_mt10, ""),
    ],
)
def test_a_name_that_is_no_text_is_refused(
    command: Callable[[], None], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        call(command, f"{flag}{NO_TEXT}")
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "it must be a path of UTF-8 text, as libraries open no other" in error


def test_policies_refuse_it_too() -> None:
    for use in (load_policy, partial(export_policy, out="policy.pt")):
        with pytest.raises(UserError, match="it must be a path of UTF-8 text"):
            use(NO_TEXT)


def test_home_is_found_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeTraining
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "settings.yaml").write_text("run_dir: ~/run\n")
    call(cli.train_mt10, *TRAIN[:-1], "--config=~/settings.yaml")
    call(cli.train_mt10, *TRAIN[:-1], "--run-dir=~/other")
    call(cli.train_mt10, "--resume=~/other")
    call(cli.evaluate_mt10, "--run=~/run", "--episodes=1", "--workers=0", "--out=~/scores")
    write_methods(home / "runs", {"equal": 0.5}, seeds=[1])
    call(cli.report_mt10, "~/runs", "--resamples=10", "--out=~/report")
    call(cli.report_mt10, "--kernels", "~/run", "--out=~/pictures")
    (home / "sweep.yaml").write_text("out: ~/sweep\nmethods: [equal]\n")
    call(cli.sweep_mt10, "--sweep=~/sweep.yaml", *SETTINGS)
    assert list(fake.events("ended")) == ["equal-seed1"]
    export_policy("~/run", "~/policy.pt")
    assert load_policy("~/run")(np.zeros(39)).shape == (4,)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert {path.name for path in home.iterdir()} == {
        *("settings.yaml", "run", "other", "scores", "runs", "report", "pictures"),
        *("sweep.yaml", "sweep", "policy.pt"),
    }
