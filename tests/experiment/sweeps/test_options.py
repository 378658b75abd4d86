"""What a sweep is asked for: methods, seeds, varied settings, and the rest for train_mt10."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.sweeps.options import Sweep, SweepOptions, as_flag, read_sweep


def read(*argv: str) -> Sweep:
    return read_sweep(argv, "sweep_mt10")


@pytest.mark.parametrize(
    ("seeds", "numbers"),
    [
        (("1-4",), (1, 2, 3, 4)),
        (("0", "7", "5-6"), (0, 7, 5, 6)),
        (("1-3", "2-4"), (1, 2, 3, 4)),
        (("9-9",), (9,)),
    ],
)
def test_seeds_are_numbers_and_ranges(seeds: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    assert SweepOptions(seeds=seeds).seed_numbers == numbers


@pytest.mark.parametrize("seeds", ["3-1", "a", "1-", "-1", "1..3", "1.5", "1-2-3", "1-100000"])
def test_other_seeds_are_refused(seeds: str) -> None:
    with pytest.raises(ConfigError, match="seeds is"):
        _ = SweepOptions(seeds=(seeds,)).seed_numbers


def test_varied_settings_are_crossed() -> None:
    variants = read("--methods", "equal", "--vary", "width=32,64", "log-std-min=-5,-2").options
    assert variants.variants == [
        {"width": width, "log_std_min": low} for width in ("32", "64") for low in ("-5", "-2")
    ]
    assert SweepOptions().variants == [{}]


def test_changes_are_made_one_at_a_time_and_at_first_none() -> None:
    options = read("--methods", "equal", "--change", "n-steps=1", "gamma=0.9,0.95").options
    changes = [{"n_steps": "1"}, {"gamma": "0.9"}, {"gamma": "0.95"}]
    assert options.variants == [{}, *changes]
    assert options.varied == {"n_steps", "gamma"}
    both = SweepOptions(vary=("width=32,64",), change=("n_steps=1",))
    assert both.variants == [
        {"width": width, **changed} for width in ("32", "64") for changed in ({}, {"n_steps": "1"})
    ]


def test_a_value_needs_a_setting() -> None:
    with pytest.raises(ConfigError, match="--vary is '32'; it must be such as width=128,256"):
        read("--methods", "equal", "--vary", "32")


def test_what_is_not_the_sweeps_is_left_for_its_runs() -> None:
    argv = [
        "--config",
        "a.yaml",
        "--methods",
        "equal,ntkmtl",
        "--tasks",
        "a",
        "b",
        "--seeds",
        "1-2",
    ]
    sweep = read(*argv, "--log-std-min", "-5", "--jobs", "3", "--no-lean", "--width=8")
    assert sweep.options == SweepOptions(methods=("equal", "ntkmtl"), seeds=("1-2",), jobs=3)
    left = ["--config", "a.yaml", "--tasks", "a", "b", "--log-std-min", "-5", "--no-lean"]
    assert sweep.settings == (*left, "--width=8")


def test_a_file_says_the_same_as_a_command_line(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "methods: [equal, ntkmtl]\nseeds: 4\nout: there\nconfig: a.yaml\ntasks: [a, b]\n"
        "lean: false\nvary: {width: [8, 16], critic_layer_norm: [true, false]}\n"
        "change: {n_steps: 2, lean: [true]}\n"
    )
    sweep = read("--sweep", str(file), "--width", "4")
    assert sweep.settings == (
        *("--config=a.yaml", "--tasks=a,b", "--no-lean"),
        *("--width", "4"),  # after the file's, so that it goes before them
    )
    assert sweep.options == SweepOptions(
        methods=("equal", "ntkmtl"),
        seeds=("4",),
        out=Path("there"),
        vary=("width=8", "16", "critic_layer_norm=true", "false"),
        change=("n_steps=2", "lean=true"),
        sweep=file,
    )
    assert read("--sweep", str(file), "--seeds", "1-2").options.seed_numbers == (1, 2)


@pytest.mark.parametrize(("content", "numbers"), [("[1, 2]", (1, 2)), ("1-2, 7", (1, 2, 7))])
def test_seeds_of_a_file(tmp_path: Path, content: str, numbers: tuple[int, ...]) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"methods: equal\nseeds: {content}\n")
    assert read("--sweep", str(file)).options.seed_numbers == numbers


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("batch_size", 8, "--batch-size=8"),
        ("lean", True, "--lean"),
        ("lean", "false", "--no-lean"),
        ("tasks", ["a", "b"], "--tasks=a,b"),
        ("video_camera", None, "--video-camera=none"),
        ("log_std_min", -5.0, "--log-std-min=-5.0"),
    ],
)
def test_settings_become_arguments(name: str, value: object, flag: str) -> None:
    assert as_flag(name, value) == flag


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "no methods; --methods ntkmtl,equal trains these two"),
        (["--jobs", "-1"], "jobs is -1"),
        (["--jobs", "many"], "--jobs is 'many'"),
        (["--methods", "equal", "--method", "equal"], "--methods lists the methods"),
        (["--methods", "equal", "--seed=3"], "--seeds lists the seeds"),
        (["--methods", "equal", "--run-dir", "x"], "--out is the folder"),
        (["--methods", "equal", "--resume"], "goes on by itself"),
        (["--methods", "equal", "--vary", "seed=1,2"], "--seeds lists the seeds"),
        (["--methods", "equal", "--change", "method=equal"], "--methods lists the methods"),
        (["--methods", "equal", "--change", "32"], "--change is '32'"),
        (["--sweep", "none.yaml"], "config file none.yaml does not exist"),
    ],
)
def test_mistakes(argv: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(*argv)


@pytest.mark.parametrize("argv", [["--help"], ["--methods"]])
def test_help_and_errors_wait_for_no_heavy_import(argv: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['sweep_mt10', *{argv!r}]\n"
        "from mtrl_ntk.cli import sweep_mt10\n"
        "try: sweep_mt10()\n"
        "finally: assert not {'torch', 'metaworld', 'numpy'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if argv == ["--help"] else 2), done.stderr
