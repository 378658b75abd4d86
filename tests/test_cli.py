"""The commands: exit codes, one line for each mistake, and what they hand on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtrl_ntk.cli import evaluate_mt10, train_mt10
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment import evaluation, training
from mtrl_ntk.experiment.config import RunConfig

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process and returns its exit code, output and errors."""

    def run_command(command: Callable[[], None], *argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [command.__name__, *argv])
        code: Any = 0
        try:
            command()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run_command


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Configurations that were handed to the trainer, which does nothing else."""
    configs: list[RunConfig] = []
    monkeypatch.setattr(training, "train", configs.append, raising=False)
    return configs


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, dict[str, object]]]:
    """What was handed to the evaluation, which does nothing else."""
    calls: list[tuple[Path, dict[str, object]]] = []

    def evaluate_run(run_dir: Path, **options: object) -> None:
        calls.append((run_dir, options))

    monkeypatch.setattr(evaluation, "evaluate_run", evaluate_run, raising=False)
    return calls


def test_train_hands_on_the_configuration(run: Run, trained: list[RunConfig]) -> None:
    assert run(train_mt10, "--method", "equal", "--seed", "5") == (0, "", "")
    assert trained == [RunConfig(method="equal", seed=5)]


def test_evaluate_hands_on_its_options(
    run: Run, evaluated: list[tuple[Path, dict[str, object]]]
) -> None:
    assert run(evaluate_mt10, "--run", "there") == (0, "", "")
    argv = ["--episodes", "3", "--seed", "4", "--device", "cpu", "--workers", "0", "--run", "here"]
    assert run(evaluate_mt10, *argv) == (0, "", "")
    assert evaluated == [
        (Path("there"), {"episodes": None, "seed": None, "device": "auto", "workers": -1}),
        (Path("here"), {"episodes": 3, "seed": 4, "device": "cpu", "workers": 0}),
    ]


def test_both_names_of_the_episodes_mean_the_same(
    run: Run, evaluated: list[tuple[Path, dict[str, object]]]
) -> None:
    run(evaluate_mt10, "--run", "here", "--episodes", "3")
    run(evaluate_mt10, "--run", "here", "--evaluation-episodes", "3")
    assert evaluated[0] == evaluated[1]


@pytest.mark.parametrize("command", [train_mt10, evaluate_mt10])
def test_help_is_no_error(run: Run, command: Callable[[], None]) -> None:
    code, output, errors = run(command, "--help")
    assert (code, errors) == (0, "")
    assert output.startswith(f"usage: {command.__name__} ")
    assert "example" in output


@pytest.mark.parametrize(
    ("command", "argv", "said"),
    [
        (train_mt10, ["--sead", "1"], "unknown option --sead; did you mean --seed?"),
        (train_mt10, ["--seed", "-1"], "seed is -1"),
        (train_mt10, ["--seed", "1\n2"], "--seed is '1\\n2'"),
        (train_mt10, ["--config", "none.yaml"], "config file none.yaml does not exist"),
        (train_mt10, ["--config", "no\nne.yaml"], "config file no ne.yaml does not exist"),
        (train_mt10, ["--tasks", "reach"], "reach-v3"),
        (evaluate_mt10, [], "--run is missing"),
        (evaluate_mt10, ["--run"], "--run: expected one argument"),
        (evaluate_mt10, ["--run", "x", "--episodes", "0"], "evaluation_episodes is 0"),
        (evaluate_mt10, ["--run", "x", "--seed", "-1"], "seed is -1"),
        (evaluate_mt10, ["--run", "x", "--workers", "-2"], "workers is -2"),
        (evaluate_mt10, ["--run", "x", "--episode", "1"], "did you mean --episodes?"),
        (evaluate_mt10, ["--run", "x", "--device", "tpu"], "one of auto, cpu, cuda"),
    ],
)
@pytest.mark.usefixtures("trained", "evaluated")
def test_a_mistake_is_one_line_exit_code_2_and_leaves_nothing(
    run: Run, tmp_path: Path, command: Callable[[], None], argv: list[str], said: str
) -> None:
    code, output, errors = run(command, *argv)
    assert (code, output) == (2, "")
    assert errors.startswith(f"{command.__name__}: error: ")
    assert errors.count("\n") == 1
    assert said in errors
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_found_while_running_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: RunConfig) -> None:
        raise UserError("the folder\nis not empty")

    monkeypatch.setattr(training, "train", fail, raising=False)
    assert run(train_mt10) == (2, "", "train_mt10: error: the folder is not empty\n")


def test_a_fault_of_the_program_keeps_its_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: RunConfig) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(training, "train", fail, raising=False)
    with pytest.raises(ValueError, match="a bug"):
        run(train_mt10)


def test_interruption_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: RunConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupt, raising=False)
    assert run(train_mt10) == (130, "", "train_mt10: interrupted\n")


@pytest.mark.parametrize("argv", [["--help"], ["--epsodes", "3"]])
def test_help_and_errors_of_evaluate_wait_for_no_heavy_import(argv: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['evaluate_mt10', *{argv!r}]\n"
        "from mtrl_ntk.cli import evaluate_mt10\n"
        "try: evaluate_mt10()\n"
        "finally: assert not {'torch', 'metaworld', 'numpy'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if argv == ["--help"] else 2), done.stderr
