"""Configurations: where values come from, what is refused, and that nothing is lost on disk."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.config import (
    RunConfig,
    defaults,
    from_dict,
    read,
    run_folder,
    save,
    to_dict,
)
from mtrl_ntk.experiment.options.fields import updated
from mtrl_ntk.experiment.options.presets import presets
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.rl.envs import BENCHMARKS, EnvConfig
from tests.experiment.examples import one_line, options_of, refused_flags, value_of


def refused(values: dict[Any, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        from_dict(values)
    return one_line(error)


# Every option


# Precedence


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
        "balance": draw(st.sampled_from(["both", "critic"])),
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


@pytest.mark.parametrize(
    ("values", "group"),
    [
        ({}, "mt10"),
        ({"benchmark": "MT25"}, "mt25"),
        ({"tasks": ["reach-v3"]}, "mt1"),
        ({"tasks": list(BENCHMARKS["MT10"])}, "mt10"),
        ({"preset": "mt10_quick"}, "mt10_quick"),
        ({"preset": "mt10_quick", "tasks": ["reach-v3", "push-v3"]}, "mt10_quick-2tasks"),
        ({"preset": "mt3_quick", "tasks": ["reach-v3", "push-v3", "sweep-v3"]}, "mt3_quick"),
        ({"preset": "mine", "tasks": ["reach-v3"]}, "mine"),
    ],
)
def test_no_run_is_filed_under_another_number_of_tasks(
    values: dict[str, object], group: str
) -> None:
    folder = run_folder(from_dict(values), datetime(2026, 1, 2, 3, 4, 5))
    assert folder.parent == Path("runs") / group


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("mt10_quick.yaml", "mt10_quick"),
        ("my run (2), a=b.yaml", "my_run_2_a_b"),
        (".läuf", "läuf"),
        ("[1].2-x.yaml", "_1_.2-x"),
        ("-€.yaml", "_"),
        ("....yaml", "config"),
    ],
)
def test_any_file_may_be_a_preset(name: str, preset: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("seed: 3\n")
    config = load(["--config", str(tmp_path / name)], "train_mt10")
    assert (config.seed, config.preset) == (3, preset)


def test_standard_preset_is_the_default() -> None:
    assert read(presets()["mt10"]) == RunConfig()


def test_v1_preset_changes_the_rewards_alone() -> None:
    assert read(presets()["mt10_v1"]) == RunConfig(env=EnvConfig(reward_version="v1"))


def test_paper_preset_is_the_protocol_of_the_lineage() -> None:
    values, usual = to_dict(read(presets()["mt10_paper"])), to_dict(RunConfig())
    assert {name: value for name, value in values.items() if value != usual[name]} == {
        "horizon": 150,
        "goal_mode": "fixed",
        "reward_version": "v1",
        "actor_head_init": 0.0,
        "critic_head_init": 0.0,
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
    for name in presets():
        for method in METHODS:
            assert load(["--config", name, "--method", method], "x").preset == name


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
        (
            {"warmstart_steps": 2, "n_steps": 3},
            "warmstart_steps is 2; it must be at least n_steps, 3",
        ),
        ({"normalize_returns": 10, "reward_scale": 0.1}, "it must be 1 with normalize_returns"),
        ({"balance": "actor", "method": "famo"}, "famo needs positive losses"),
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
