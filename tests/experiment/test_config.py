"""Configurations: where values come from, what is refused, and that nothing is lost on disk."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.config import (
    RunConfig,
    all_options,
    defaults,
    from_dict,
    read,
    run_folder,
    save,
    to_dict,
)
from mtrl_ntk.experiment.options.fields import Option, field_docs, leaves, options, updated
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.sac import SacConfig
from mtrl_ntk.settings import Decides
from tests.experiment.examples import example

CONFIGS = Path(__file__).parents[2] / "configs"
UNBOUNDED = {"target_entropy"}


def options_of(method: str) -> list[Option]:
    return options(defaults(method), section="Run")


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.strip()
    return text


def refused(values: dict[Any, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        from_dict(values)
    return one_line(error)


def refused_flags(*argv: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(argv, "train_mt10")
    return one_line(error)


# Every option


@pytest.mark.parametrize("method", METHODS)
def test_option_names_are_unique(method: str) -> None:
    names = [option.name for option in options_of(method)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("method", METHODS)
def test_every_option_says_what_it_decides(method: str) -> None:
    known = {"decides", "bounds", "choices", "flags", "alone", "one_value"}
    for name, _, facts in leaves(defaults(method)):
        assert facts["decides"] in get_args(Decides), name
        assert facts.keys() <= known, name


@pytest.mark.parametrize("method", METHODS)
def test_every_option_is_documented(method: str) -> None:
    undocumented = [option.name for option in options_of(method) if not option.doc.endswith(".")]
    assert undocumented == []


def test_every_number_has_bounds_or_is_known_to_need_none() -> None:
    numbers = {
        option.name
        for option in all_options()
        if {int, float} & {option.annotation, *get_args(option.annotation)}
    }
    bounded = {
        name for each in METHODS for name, _, facts in leaves(defaults(each)) if "bounds" in facts
    }
    assert numbers == bounded | UNBOUNDED


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
        if option.flags and option.name != "method":
            arguments, value = as_arguments(option, example(option)), example(option)
            # So that small values fit.
            small = ["--warmstart-steps", "2", "--batch-size", "2", "--kernel-minibatches", "1"]
            if "num_minibatches" in {each.name for each in own_options(method)}:
                small += ["--num-minibatches", "1"]
            config = load(["--method", method, *small, *arguments], "train_mt10")
            assert value_of(config, option.name) == value != option.default


def value_of(config: RunConfig, name: str) -> object:
    return next(value for each, value, _ in leaves(config) if each == name)


def as_arguments(option: Option, value: object) -> list[str]:
    """Arguments that set an option."""
    flag = option.flags[0]
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    return [flag, ",".join(value) if isinstance(value, tuple) else str(value)]


# Precedence


def test_file_overrides_defaults_and_command_line_overrides_file(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("batch_size: 32\nwidth: 64\n")
    config = load(["--width", "16", "--config", str(file)], "train_mt10")
    assert config.sac == SacConfig(batch_size=32, width=16)
    assert config.preset == "small"


def test_without_arguments_all_is_default() -> None:
    assert load([], "train_mt10") == RunConfig()


def test_later_flags_win() -> None:
    assert load(["--seed", "3", "--seed", "4"], "train_mt10").seed == 4


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


def test_switches_can_be_turned_off_again(tmp_path: Path) -> None:
    file = tmp_path / "norm.yaml"
    file.write_text("critic_layer_norm: true\n")
    argv = ["--config", str(file)]
    assert load(argv, "train_mt10").sac.critic_layer_norm
    assert not load([*argv, "--no-critic-layer-norm"], "train_mt10").sac.critic_layer_norm


@pytest.mark.parametrize(
    "arguments",
    [
        ["reach-v3,push-v3"],
        ["reach-v3, push-v3"],
        ["reach-v3,", "push-v3"],
        ["reach-v3", "push-v3"],
    ],
)
def test_tasks_may_be_separated_by_commas_and_spaces(arguments: list[str]) -> None:
    config = load(["--tasks", *arguments, "--seed", "2"], "train_mt10")
    assert config.env.tasks == ("reach-v3", "push-v3")


@pytest.mark.parametrize("text", ["3e-4", "0.0003", "'3e-4'", "3.0e-4"])
def test_numbers_of_a_file_may_be_written_without_a_dot(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rate.yaml"
    file.write_text(f"learning_rate: {text}\n")
    assert read(file).sac.learning_rate == 3e-4


@pytest.mark.parametrize("text", ["20000", "20_000", "2e4", "20000.0"])
def test_whole_numbers_may_be_written_in_any_way(tmp_path: Path, text: str) -> None:
    file = tmp_path / "steps.yaml"
    file.write_text(f"total_steps: {text}\n")
    steps = [read(file).loop.total_steps, load(["--total-steps", text], "x").loop.total_steps]
    assert [(type(count), count) for count in steps] == [(int, 20_000)] * 2


def test_none_unsets_an_option_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "entropy.yaml"
    file.write_text("target_entropy: -2\n")
    config = load(["--config", str(file), "--target-entropy", "none"], "train_mt10")
    assert config.sac.target_entropy is None


# The way to disk and back


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    base = defaults(draw(st.sampled_from(sorted(METHODS))))
    values = {
        "seed": draw(st.integers(0, 2**32 - 1)),
        "run_dir": draw(st.none() | st.from_regex(r"[\w./ -]+", fullmatch=True).map(Path)),
        "preset": draw(st.from_regex(r"[a-zA-Z0-9_]{1,9}", fullmatch=True)),
        "tasks": tuple(draw(st.lists(st.sampled_from(["reach-v3", "push-v3"]), unique=True))),
        "learning_rate": draw(st.floats(0, 1e6, exclude_min=True)),
        "target_entropy": draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        "shared_temperature": draw(st.booleans()),
        "total_steps": draw(st.integers(4_000, 10**12)),
        "goal_mode": draw(st.sampled_from(["resampled", "fixed"])),
        "reward_normalization": draw(st.sampled_from(["none", "running_variance"])),
    }
    return updated(base, values)


@settings(max_examples=40)
@given(config=configs())
def test_round_trips_are_exact(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert from_dict(to_dict(config)) == config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    file = tmp_path_factory.mktemp("run") / "config.yaml"
    save(config, file)
    assert read(file) == replace(config, run_dir=None)


def test_saved_file_is_flat_and_complete(tmp_path: Path) -> None:
    save(RunConfig(), tmp_path / "config.yaml")
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert list(saved) == [option.name for option in options_of(RunConfig.method)]
    assert not any(isinstance(value, dict) for value in saved.values())


def test_run_folder_is_named_for_what_runs() -> None:
    started = datetime(2026, 1, 2, 3, 4, 5)
    config = RunConfig(method="equal", seed=7, preset="smoke")
    assert run_folder(config, started) == Path("runs/smoke/equal-seed7-20260102-030405")
    assert run_folder(replace(config, run_dir=Path("here")), started) == Path("here")


def test_standard_preset_is_the_default() -> None:
    assert read(CONFIGS / "mt10.yaml") == RunConfig()


def test_v1_preset_changes_the_rewards_alone() -> None:
    assert read(CONFIGS / "mt10_v1.yaml") == RunConfig(env=EnvConfig(reward_version="v1"))


def test_paper_preset_is_the_protocol_of_the_lineage() -> None:
    values, usual = to_dict(read(CONFIGS / "mt10_paper.yaml")), to_dict(RunConfig())
    assert {name: value for name, value in values.items() if value != usual[name]} == {
        "horizon": 150,
        "goal_mode": "fixed",
        "reward_version": "v1",
        "reward_normalization": "running_variance",
        "adam_epsilon": 1e-8,
        "max_grad_norm": 0.0,
        "shared_temperature": True,
        "warmstart_steps": 1_500,
        "evaluate_every": 30_000,
        "evaluation_episodes": 1,
    }
    # The lineage states totals over its ten tasks.
    assert (10 * values["batch_size"], 10 * values["replay_capacity"]) == (1_280, 1_000_000)


def test_every_preset_is_valid_for_every_method() -> None:
    for file in CONFIGS.glob("*.yaml"):
        for method in METHODS:
            assert load(["--config", str(file), "--method", method], "x").preset == file.stem


# What is refused


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("seed", -1, 0),
        ("seed", 2**32, 2**32 - 1),
        ("threads", -1, 0),
        ("envs_per_task", 0, 1),
        ("horizon", 0, 1),
        ("horizon", 501, 500),
        ("workers", -2, -1),
        ("batch_size", 0, 1),
        ("num_minibatches", 0, 2),
        ("gamma", 0, 1),
        ("gamma", 1.01, 0.5),
        ("tau", 0, 1),
        ("tau", 1.5, 0.5),
        ("learning_rate", 0, 1e-9),
        ("temperature_learning_rate", -1e-3, 1e-3),
        ("adam_epsilon", 0, 1e-9),
        ("max_grad_norm", -1, 0),
        ("width", 0, 1),
        ("depth", 0, 1),
        ("initial_temperature", 0, 0.1),
        ("reward_scale", 0, 0.1),
        ("total_steps", 0, 4_000),
        ("warmstart_steps", 0, 1),
        ("updates_per_step", 0, 0.01),
        ("replay_capacity", 0, 128),
        ("log_every", 0, 1),
        ("evaluate_every", 0, 1),
        ("evaluation_episodes", 0, 1),
    ],
)
def test_ranges(name: str, bad: float, good: float) -> None:
    assert value_of(from_dict({name: good}), name) == good
    assert re.match(
        rf"{name} is {bad}(\.0)?; it must be (at least|above|from) ", refused({name: bad})
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": 200, "replay_capacity": 100}, "at most replay_capacity, 100"),
        ({"total_steps": 100}, "at least warmstart_steps, 4000"),
        ({"log_std_min": 2}, "below log_std_max, 2.0"),
        ({"num_minibatches": 3}, "must divide batch_size, 128"),
        ({"preset": "../elsewhere"}, "letters, digits"),
    ],
)
def test_values_that_do_not_fit_together(values: dict[str, object], said: str) -> None:
    message = refused(values)
    assert said in message
    assert next(iter(values)) in message


def test_hyper_parameters_of_another_method_are_refused() -> None:
    with pytest.raises(ConfigError, match="not the config of method equal"):
        RunConfig(method="equal", weighting=METHODS["ntkmtl"].config_class())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_sise": 3}, "unknown key 'batch_sise'; did you mean batch_size?"),
        ({"batch-size": 3}, "did you mean batch_size?"),
        ({"zzzzzzzz": 3}, "unknown key 'zzzzzzzz'; --help lists all"),
        ({1: 2}, "unknown key 1"),
        ({"norm_floor": 1}, "option of db_mtl and unit_norm, and the method is ntkmtl"),
        ({"method": "ntkmlt"}, "unknown method 'ntkmlt'; did you mean ntkmtl?"),
        ({"method": "xyz"}, "possible: " + ", ".join(METHODS)),
        ({"method": ["equal"]}, "unknown method ['equal']"),
        ({"tasks": "reach-v3,psuh-v3"}, "push-v3"),
        ({"tasks": ["reach-v3", "reach-v3"]}, "twice"),
        ({"tasks": 3}, "tasks is 3; it must be a list such as a,b"),
        ({"tasks": [3]}, "tasks is [3]; it must be"),
        ({"seed": "one"}, "seed is 'one'; it must be a whole number"),
        ({"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        ({"seed": True}, "seed is True; it must be a whole number"),
        ({"seed": None}, "seed is empty; it must be a whole number"),
        ({"seed": [1]}, "seed is [1]; it must be a whole number"),
        ({"gamma": "high"}, "gamma is 'high'; it must be a finite number"),
        ({"gamma": False}, "gamma is False; it must be a finite number"),
        ({"reward_scale": float("nan")}, "it must be a finite number"),
        ({"reward_scale": "inf"}, "it must be a finite number"),
        ({"reward_scale": 10**400}, "it must be a finite number"),
        ({"critic_layer_norm": "on"}, "critic_layer_norm is 'on'; it must be true or false"),
        ({"device": "gpu"}, "device is 'gpu'; it must be one of auto, cpu, cuda"),
        ({"benchmark": ["MT10"]}, "it must be one of MT10, MT25, MT50"),
        ({"reward_normalization": "std"}, "it must be one of none, running_variance"),
        ({"reward_normalization": None}, "it must be one of none, running_variance"),
        ({"run_dir": 3}, "run_dir is 3; it must be a path"),
        ({"preset": 3}, "preset is 3; it must be text"),
    ],
)
def test_wrong_names_and_types(values: dict[Any, Any], said: str) -> None:
    assert said in refused(values)


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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must hold lines of the form 'name: value'"),
        (b"# only a comment\n", "must hold lines"),
        (b"- 1\n- 2\n", "must hold lines"),
        (b"just text", "must hold lines"),
        (b"a: [1, 2", "is not valid YAML"),
        (b"a: b: c", "is not valid YAML"),
        (b"\tseed: 1", "is not valid YAML"),
        (b"seed: !!python/name:os.system", "is not valid YAML"),
        (b"seed: 2024-13-45", "it must be a whole number"),
        (b"seed: \xff", "is not UTF-8 text: line 1"),
        (b"sed: 1", "unknown key 'sed'; did you mean seed?"),
        (b"seed: x", "seed is 'x'"),
        (b"seed: -1", "seed is -1"),
    ],
)
def test_wrong_config_files(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    assert said in refused_flags("--config", str(file))


def test_missing_config_file_suggests_the_closest(tmp_path: Path) -> None:
    (tmp_path / "mt10.yaml").write_text("seed: 1\n")
    said = refused_flags("--config", str(tmp_path / "mt1O.yaml"))
    assert said.endswith(f"does not exist; did you mean {tmp_path / 'mt10.yaml'}?")
    assert refused_flags("--config", str(tmp_path / "no" / "x.yaml")).endswith("does not exist")


def test_a_folder_is_no_config_file(tmp_path: Path) -> None:
    assert "is not a file" in refused_flags("--config", str(tmp_path))


def test_checks_of_a_method_become_config_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS["equal"], "config_class", Picky)
    with pytest.raises(ConfigError, match=r"power is 3\.0"):
        load(["--method", "equal", "--power", "3"], "train_mt10")


@dataclass(frozen=True)
class Picky:
    """A method's config that checks itself."""

    power: float = 1.0
    """Power."""

    def __post_init__(self) -> None:
        if self.power > 2:
            raise ValueError(f"power is {self.power}; it must be at most 2")


def test_config_errors_are_mistakes_of_the_user() -> None:
    assert issubclass(ConfigError, UserError)
    assert issubclass(ConfigError, ValueError)


# Help


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


def test_docs_of_a_base_class_are_found() -> None:
    @dataclass(frozen=True)
    class Wider(EnvConfig):
        extra: int = 0
        """Extra."""

    docs = field_docs(Wider)
    assert docs["extra"] == "Extra."
    assert docs["horizon"] == field_docs(EnvConfig)["horizon"]


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
