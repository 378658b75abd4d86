"""train_supervised: exit codes, one line for each mistake, help and answers."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mtrl_ntk.cli import (
    evaluate_mt10,
    report_mt10,
    sweep_supervised,
    train_mt10,
    train_supervised,
)
from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.checkpoints.checkpoint import save_checkpoint
from mtrl_ntk.experiment.config import save, to_dict
from mtrl_ntk.supervised import answers
from mtrl_ntk.supervised.command import load
from mtrl_ntk.supervised.config import SUPERVISED
from mtrl_ntk.supervised.training.run import train
from tests.experiment.training.test_run import tiny as reinforced
from tests.robustness.exit_codes import code_of
from tests.supervised.runs import tiny

SMALL = (
    *("--train-pairs", "20", "--test-pairs", "8", "--batch-size", "8", "--epochs", "1"),
    *("--width", "2", "--features", "4", "--threads", "1", "--device", "cpu"),
)


def said(*argv: str, command: Callable[[], None] = train_supervised) -> tuple[object, str, str]:
    """Exit code, output and errors of the command."""
    out, err = io.StringIO(), io.StringIO()
    code = code_of(command, *argv, out=out, err=err)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--seed x", "--seed is 'x'; it must be a whole number"),
        ("--dataset mnist", "unknown dataset 'mnist'"),
        ("--dataset", "expected one argument"),
        ("--network segnet", "network is segnet; data set digits takes small_cnn"),
        ("--tasks depth", "tasks is depth; of digits there are left, right"),
        ("--tasks", "expected at least one argument"),
        ("--method ntk", "unknown method"),
        ("--batch-size 0", "batch_size is 0; it must be at least 1"),
        ("--batch-size 5000", "batch_size is 5000; it must be at most 4000"),
        ("--epochs 1.5", "it must be a whole number"),
        ("--learning-rate nan", "it must be a finite number"),
        ("--schedule sine", "--schedule"),
        ("--num-minibatches 5", "it must divide batch_size"),
        ("--method equal --num-minibatches 2", "and the method is equal"),
        ("--scene-seed 1", "it is an option of scenes, and the data set is digits"),
        ("--horizon 5", "unknown option --horizon"),
        ("--config smoke", "there is no preset, and no file"),
        ("--config digit", "did you mean digits?"),
        ("--resume", "--resume needs --run-dir"),
        ("--resume nowhere", "nowhere does not exist"),
        ("--preset x", "unknown option --preset"),
        ("--print-completion fish", "--print-completion is 'fish'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(line: str, message: str) -> None:
    code, out, err = said(*line.split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no methods; --methods ntkmtl,equal trains these two"),
        ("--methods equal --method equal", "--methods lists the methods of a sweep"),
        ("--methods equal --epochs 0", "epochs is 0; it must be at least 1"),
        ("--methods equal --vary width=x", "it must be a whole number"),
        ("--methods equal --vary gamma=1", "unknown option --gamma"),
        ("--methods equal --drop-replay", "unknown option --drop-replay"),
        ("--methods equal --seeds x", "seeds is 'x'"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line_too(line: str, message: str) -> None:
    code, out, err = said(*line.split(), command=sweep_supervised)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("prog", "words", "expected"),
    [
        ("train_supervised", ["--dataset", "dig"], {"digits"}),
        ("train_supervised", ["--method", "ntk"], {"ntkmtl", "ntkmtl_sr"}),
        ("train_supervised", ["--tasks", "left,ri"], {"left,right"}),
        ("train_supervised", ["--train-p"], {"--train-pairs"}),
        ("train_supervised", ["--dry"], {"--dry-run"}),
        ("train_supervised", ["--config", "celeb"], {"celeba"}),
        ("train_supervised", ["--list-d"], {"--list-datasets"}),
        ("sweep_supervised", ["--methods", "equal,imtl"], {"equal,imtl_g"}),
        ("sweep_supervised", ["--seeds"], {"--seeds"}),
    ],
)
def test_shells_complete_the_commands(prog: str, words: list[str], expected: set[str]) -> None:
    program = (
        answers.completion(prog, "bash")
        + f"\nCOMP_WORDS=({prog} {' '.join(words)})\nCOMP_CWORD={len(words)}\n"
        + f'_shtab_{prog} {prog} "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"\n'
        + 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert {*done.stdout.split()} == expected


def test_help_shows_the_options_of_what_is_chosen() -> None:
    code, out, _ = said("--method", "ntkmtl_sr", "--help")
    assert code == 0
    assert {"--num-minibatches", "--train-pairs", "--features", "--list-datasets"} <= {*out.split()}
    assert "--num-minibatches" not in said("--method", "equal", "--help")[1]


def test_a_dry_run_is_a_file_that_starts_the_same_run(tmp_path: Path) -> None:
    code, out, err = said(*SMALL, "--method", "equal", "--dry-run")
    assert (code, err) == (0, "")
    (tmp_path / "again.yaml").write_text(out)
    again = load(["--config", "again.yaml"], "train_supervised")
    assert again.length == 1
    assert again.method == "equal"
    assert [path.name for path in tmp_path.iterdir()] == ["again.yaml"]
    assert "ms an update" in out
    assert "# protocol:" in out


def test_what_there_is_is_listed() -> None:
    lists = {
        "--list-datasets": "digits",
        "--list-networks": "small_cnn",
        "--list-tasks": "left",
        "--list-methods": "ntkmtl_sr",
        "--list-presets": "digits",
    }
    for flag, name in lists.items():
        code, out, _ = said(flag)
        assert code == 0
        assert name in [line.split()[0] for line in out.splitlines()]
    assert said("--version")[1].startswith("mtrl_ntk ")


def test_a_run_of_reinforcement_learning_is_not_gone_on_with(tmp_path: Path) -> None:
    config = reinforced(tmp_path / "run")
    metadata = {"config": to_dict(config), "counters": {"vector_steps": 5}}
    save_checkpoint(tmp_path / "run" / "checkpoint" / "step-000000005", {}, metadata, {})
    save(config, tmp_path / "run" / "config.yaml")
    code, _, err = said("--resume", "run")
    assert code == 2
    assert err.count("\n") == 1
    assert "is of no run of train_supervised" in err


def test_commands_for_agents_say_what_a_supervised_run_is(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    train(config, quiet=True)
    for command, line, message in (
        (evaluate_mt10, "run", "holds no agent but what train_supervised has trained"),
        (evaluate_mt10, "run/checkpoint", "holds no agent but what train_supervised has trained"),
        (report_mt10, "--kernels run", "is of train_supervised, which keeps no kernels"),
        (train_mt10, "--resume run", "is of no run of train_mt10"),
        (train_mt10, "--config run/config.yaml", "settings of train_supervised, not of train_mt10"),
    ):
        code, _, err = said(*line.split(), command=command)
        assert (code, err.count("\n")) == (2, 1)
        assert message in err
    metadata = load_newest(tmp_path / "run" / "checkpoint").checkpoint.metadata
    assert metadata["score"] is None
    assert not [
        key for key in json.dumps(metadata).split('"') if "vector" in key or "success" in key
    ]
    save(reinforced(tmp_path), tmp_path / "other.yaml")
    code, _, err = said("--config", "other.yaml")
    assert code == 2
    assert "other.yaml holds settings of train_mt10, not of train_supervised" in err


def test_a_command_line_is_what_its_options_say() -> None:
    config = load([*SMALL, "--tasks", "sum,left", "--seed", "4"], "train_supervised")
    assert config == SUPERVISED.from_dict(
        {
            "train_pairs": 20,
            "test_pairs": 8,
            "batch_size": 8,
            "epochs": 1,
            "width": 2,
            "features": 4,
            "threads": 1,
            "device": "cpu",
            "tasks": "sum,left",
            "seed": 4,
        }
    )
    assert load(["--config", "digits"], "train_supervised").group == "digits"
