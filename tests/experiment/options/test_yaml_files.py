"""What stands in a file means what it means on the command line, or is refused as it is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.config import read
from mtrl_ntk.experiment.options.yaml_files import read_values
from mtrl_ntk.experiment.sweeps.options import read_sweep
from mtrl_ntk.experiment.training.command import load


def value_or_refusal(make: Callable[[], object]) -> object:
    try:
        return make()
    except ConfigError:
        return "refused"


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        *(("010", 10), ("08", 8), ("1_000", 1000), ("+7", 7), ("2e3", 2000), ("12.0", 12)),
        *(("4_294_967_295", 4_294_967_295), ("'5'", 5)),
        *((odd, "refused") for odd in ("1:30", "190:20:30", "0x10", "0o10", "0b11", "1__0", "_1")),
        *((odd, "refused") for odd in ("on", "off", "yes", "no", "y", "true", "~", ".inf", ".nan")),
        *((odd, "refused") for odd in ("2026-01-01", "0.1:30", "<<", "=", "none")),
    ],
)
def test_numbers_are_decimal(tmp_path: Path, text: str, seed: object) -> None:
    (tmp_path / "a.yaml").write_text(f"seed: {text}\n")
    assert value_or_refusal(lambda: read(tmp_path / "a.yaml").seed) == seed
    assert value_or_refusal(lambda: load([f"--seed={text.strip(chr(39))}"], "p").seed) == seed


NUMERALS = st.text("0123456789_:.+-exob", min_size=1, max_size=8).filter(lambda text: text != "-")


@given(NUMERALS, st.sampled_from(["seed", "gamma", "worker_timeout", "threads"]))
def test_a_numeral_is_the_same_in_a_file_and_in_a_flag(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "numeral.yaml"
    file.write_text(f"{name}: {text}\n")

    def from_flag() -> object:
        return load([f"--{name.replace('_', '-')}={text}"], "p")

    def from_file() -> object:
        return read(file)

    assert value_or_refusal(from_file) == value_or_refusal(from_flag)


@pytest.mark.parametrize("text", ["on", "off", "yes", "no", "'true'", "1"])
def test_switches_are_true_or_false(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(f"lean: {text}\n")
    with pytest.raises(ConfigError, match="it must be true or false"):
        read(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("lean: False\ncompile: TRUE\nrun_dir: none\nresume: ~\n")
    config = read(tmp_path / "a.yaml")
    assert (config.env.lean, config.compile, config.run_dir) == (False, True, None)


def test_text_may_look_like_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("on: 1\nrun_dir: 010\npreset: 2026-01-01\nx: [1:30, no]\n")
    values = read_values(tmp_path / "a.yaml")
    assert values == {"on": "1", "run_dir": "010", "preset": "2026-01-01", "x": ["1:30", "no"]}


@pytest.mark.parametrize(
    "line", ["seeds: [08, 09, 010]", "seeds: 08-10", "seeds: 8,09,10", "seeds: [8-9, 010]"]
)
def test_seeds_of_a_sweep_are_decimal(tmp_path: Path, line: str) -> None:
    (tmp_path / "s.yaml").write_text(f"methods: equal\n{line}\n")
    sweep = read_sweep(["--sweep", str(tmp_path / "s.yaml")], "sweep_mt10")
    assert sweep.options.seed_numbers == (8, 9, 10)


@pytest.mark.parametrize("text", ["0x10", "1:30", "on", "1_0", "٣"])
def test_what_is_no_seed_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(f"methods: equal\nseeds: [{text}]\n", encoding="utf-8")
    for argv in (["--sweep", str(tmp_path / "s.yaml")], ["--methods=equal", f"--seeds={text}"]):
        with pytest.raises(ConfigError, match="it must be numbers and ranges"):
            _ = read_sweep(argv, "sweep_mt10").options.seed_numbers


def test_settings_of_a_sweep_are_handed_on_as_they_are_written(tmp_path: Path) -> None:
    text = "methods: equal\nvary: {width: [0128, 1_000]}\ntotal_steps: 020_000\ntime: 1:30:00\n"
    text += "backend: slurm\nlean: false\n"
    (tmp_path / "s.yaml").write_text(text)
    sweep = read_sweep(["--sweep", str(tmp_path / "s.yaml")], "sweep_mt10")
    assert sweep.settings == ("--total-steps=020_000", "--no-lean")
    assert [variant["width"] for variant in sweep.options.variants] == ["0128", "1_000"]
    assert sweep.options.time == "1:30:00"
    config = load(["--width=0128", *sweep.settings], "p")
    assert (config.sac.width, config.loop.total_steps) == (128, 20_000)
