"""Command lines: flags, switches, mistakes and help."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment.options.fields import Option, options
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.rl.sac import SacConfig
from tests.experiment.examples import example, options_of, refused_flags, value_of


def own_options(method: str) -> list[Option]:
    """The options that the method adds to those of all."""
    return options(METHODS[method].config_class())


@pytest.mark.parametrize(
    "options_to_set",
    [options_of("equal"), *(own_options(method) for method in METHODS)],
    ids=["all", *METHODS],
)
def test_every_flag_sets_its_option(
    options_to_set: list[Option], request: pytest.FixtureRequest
) -> None:
    method = request.node.callspec.id.replace("all", "equal")
    for option in options_to_set:
        if option.flags and option.name not in ("method", "plugin", "suite"):
            arguments, value = as_arguments(option, example(option)), example(option)
            # So that small values fit.
            small = ["--warmstart-steps", "2", "--batch-size", "2", "--kernel-minibatches", "1"]
            if "num_minibatches" in {each.name for each in own_options(method)}:
                small += ["--num-minibatches", "1"]
            config = load(["--method", method, *small, *arguments], "train_mt10")
            assert value_of(config, option.name) == value != option.default


def as_arguments(option: Option, value: object) -> list[str]:
    """Arguments that set an option."""
    flag = option.flags[0]
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    return [flag, ",".join(value) if isinstance(value, tuple) else str(value)]


def test_later_flags_win() -> None:
    assert load(["--seed", "3", "--seed", "4"], "train_mt10").seed == 4


def test_switches_can_be_turned_off_again(tmp_path: Path) -> None:
    file = tmp_path / "norm.yaml"
    file.write_text("critic_layer_norm: true\n")
    argv = ["--config", str(file)]
    assert load(argv, "train_mt10").sac.critic_layer_norm
    assert not load([*argv, "--no-critic-layer-norm"], "train_mt10").sac.critic_layer_norm


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--batch-sise", "3"], "unknown option --batch-sise; did you mean --batch-size?"),
        (["--batch_size=3"], "did you mean --batch-size?"),
        (["--norm-floor", "1"], "option of db_mtl and unit_norm"),
        (["--batch", "3"], "unknown option --batch"),
        (["--seed", "x"], "--seed is 'x'; it must be a whole number"),
        (["--seed", "1\n2"], "--seed is '1\\n2'"),
        (["--seed"], "--seed: expected one argument"),
        (["--device", "gpu"], "--device is 'gpu'; it must be one of auto, cpu, cuda"),
        (["--reward-normalization", "on"], "it must be one of none, running_variance"),
        (["--method", "pcgard"], "unknown method 'pcgard'"),
        (["--preset", "mt10"], "unknown option --preset"),
        (["stray"], "unexpected argument 'stray'"),
        (["--config"], "--config: expected one argument"),
    ],
)
def test_wrong_command_lines(argv: list[str], said: str) -> None:
    assert said in refused_flags(*argv)


def test_help_teaches_every_flag_of_the_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(["--method", "unit_norm", "--help"], "train_mt10")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    flags = [flag for option in options_of("unit_norm") for flag in option.flags]
    assert [flag for flag in flags if flag not in text] == []
    assert "--exponent" not in text
    assert f"default: {SacConfig.batch_size}" in text


def test_help_shows_the_values_of_the_config_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text("batch_size: 77\n")
    with pytest.raises(SystemExit):
        load(["--help", "--config", str(tmp_path / "small.yaml")], "train_mt10")
    assert "(default: 77)" in capsys.readouterr().out
