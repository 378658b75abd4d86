"""A configuration from a file and a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.checkpoint import save_checkpoint
from mtrl_ntk.experiment.config import RunConfig, to_dict
from mtrl_ntk.experiment.options.presets import presets
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.rl.sac import SacConfig


def test_file_overrides_defaults_and_command_line_overrides_file(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("batch_size: 32\nwidth: 64\n")
    config = load(["--width", "16", "--config", str(file)], "train_mt10")
    assert config.sac == SacConfig(batch_size=32, width=16)
    assert config.preset == "small"


def test_a_preset_is_found_by_name_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    of_file = load(["--config", str(presets()["smoke"])], "train_mt10")
    assert load(["--config", "smoke"], "train_mt10") == of_file
    assert (of_file.preset, of_file.sac.width) == ("smoke", 32)


def test_without_arguments_all_is_default() -> None:
    assert load([], "train_mt10") == RunConfig()


def test_command_line_can_mend_a_file_that_does_not_stand_alone(tmp_path: Path) -> None:
    file = tmp_path / "short.yaml"
    file.write_text("total_steps: 10\n")
    argv = ["--config", str(file)]
    assert load([*argv, "--warmstart-steps", "5"], "train_mt10").loop.warmstart_steps == 5
    with pytest.raises(ConfigError, match="total_steps is 10"):
        load(argv, "train_mt10")


def test_method_of_the_file_brings_its_options(tmp_path: Path) -> None:
    file = tmp_path / "unit.yaml"
    file.write_text("method: unit_norm\nnorm_floor: 1e-2\n")
    config = load(["--config", str(file), "--norm-floor", "0.5"], "train_mt10")
    assert (config.method, config.weighting.norm_floor) == ("unit_norm", 0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "ntkmtl", "--network", "independent"], "shares nothing to balance"),
        (["--method", "ntkmtl_sr", "--network", "shared"], "use --network multi_head"),
        (["--method", "ntkmtl", "--kernel", "output", "--num-minibatches", "2"], "must be 1"),
        (["--network", "mlp"], "network"),
    ],
)
def test_what_does_not_fit_together_is_said_in_a_line(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(arguments, "train_mt10")


def test_runs_from_before_there_were_suites_go_on_and_supervised_ones_do_not(
    tmp_path: Path,
) -> None:
    settings = {k: v for k, v in to_dict(RunConfig(seed=7)).items() if k != "suite"}
    for name, values in (("old", settings), ("other", {"dataset": "digits", "method": "equal"})):
        save_checkpoint(tmp_path / name / "checkpoint" / "step-000000005", {}, {"config": values})
    assert load(["--resume", str(tmp_path / "old")], "train_mt10").seed == 7
    with pytest.raises(ConfigError, match="is of no run of train_mt10"):
        load(["--resume", str(tmp_path / "other")], "train_mt10")
