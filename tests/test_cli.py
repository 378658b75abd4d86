"""The commands: exit codes, one line for each mistake, and what they hand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtrl_ntk.cli import evaluate_mt10, report_mt10, train_mt10
from mtrl_ntk.errors import Interrupted, UserError
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.evaluation import evaluate as evaluation
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.kernels import report as kernel_report
from mtrl_ntk.experiment.options.sections import VideoConfig
from mtrl_ntk.experiment.training import run as training

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
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[EvaluationOptions]:
    """What was handed to the evaluation, which does nothing else."""
    calls: list[EvaluationOptions] = []
    monkeypatch.setattr(evaluation, "evaluate_agent", calls.append)
    return calls


def test_train_hands_on_the_configuration(run: Run, trained: list[RunConfig]) -> None:
    assert run(train_mt10, "--method", "equal", "--seed", "5") == (0, "", "")
    assert trained == [RunConfig(method="equal", seed=5)]


def test_evaluate_hands_on_its_options(run: Run, evaluated: list[EvaluationOptions]) -> None:
    assert run(evaluate_mt10, "there") == run(evaluate_mt10, "--run", "there") == (0, "", "")
    assert run(evaluate_mt10, "--tasks", "push-v3", "it", "--checkpoint", "best") == (0, "", "")
    argv = ["--checkpoint", "here", "--episodes", "3", "--seed", "4", "--workers", "0", "--sampled"]
    argv += ["--tasks", "push-v3,reach-v3", "--video-camera", "topview", "--gif", "--out", "o"]
    assert run(evaluate_mt10, *argv) == (0, "", "")
    assert evaluated == [
        EvaluationOptions(run=Path("there")),
        EvaluationOptions(run=Path("there")),
        EvaluationOptions(run=Path("it"), checkpoint=Path("best"), tasks=("push-v3",)),
        EvaluationOptions(
            checkpoint=Path("here"),
            evaluation_episodes=3,
            seed=4,
            workers=0,
            sampled=True,
            tasks=("push-v3", "reach-v3"),
            gif=True,
            out=Path("o"),
            videos=VideoConfig(video_camera="topview"),
        ),
    ]


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [([], False), (["--video"], True), (["--gif"], True), (["--no-video"], False)],
)
def test_videos_are_made_on_demand(
    run: Run, evaluated: list[EvaluationOptions], argv: list[str], wanted: bool
) -> None:
    run(evaluate_mt10, "--run", "here", *argv)
    assert [options.wants_video for options in evaluated] == [wanted]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Path, ...], dict[str, object]]]:
    """What was handed to the report on kernels, which does nothing else."""
    calls: list[tuple[tuple[Path, ...], dict[str, object]]] = []

    def report_kernels(run_dirs: tuple[Path, ...], **options: object) -> None:
        calls.append((run_dirs, options))

    monkeypatch.setattr(kernel_report, "report_kernels", report_kernels)
    return calls


def test_report_hands_on_its_runs_and_options(
    run: Run, reported: list[tuple[tuple[Path, ...], dict[str, object]]]
) -> None:
    assert run(report_mt10, "--kernels", "runs/a") == (0, "", "")
    argv = ["--kernels", "runs/a", "runs/b", "--out", "plots", "--least-affinity", "-0.5"]
    assert run(report_mt10, *argv) == (0, "", "")
    assert reported == [
        ((Path("runs/a"),), {"output": None, "least_affinity": None}),
        (
            (Path("runs/a"), Path("runs/b")),
            {"output": Path("plots"), "least_affinity": -0.5},
        ),
    ]


def test_both_names_of_the_episodes_mean_the_same(
    run: Run, evaluated: list[EvaluationOptions]
) -> None:
    run(evaluate_mt10, "--run", "here", "--episodes", "3")
    run(evaluate_mt10, "--run", "here", "--evaluation-episodes", "3")
    assert evaluated[0] == evaluated[1]


@pytest.mark.parametrize("command", [train_mt10, evaluate_mt10, report_mt10])
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
        (evaluate_mt10, [], "give DIR, the folder of a run or of one of its checkpoints"),
        (evaluate_mt10, ["x", "--run", "y"], "give DIR or --run DIR, which are the same, once"),
        (evaluate_mt10, ["--run", "x", "--tasks", "a", "--benchmark", "MT50"], "not both"),
        (evaluate_mt10, ["--run", "x", "--goals", "training", "--seed", "1"], "leave it out"),
        (evaluate_mt10, ["--run", "x", "--video-size", "32"], "video_size is 32"),
        (evaluate_mt10, ["--run", "x", "--video-stride", "0"], "video_stride is 0"),
        *(
            (evaluate_mt10, ["--run", "x", *argv], f"{argv[0][2:].replace('-', '_')} is of no use")
            for argv in (
                ["--video-camera", "topview"],
                ["--video-size", "64"],
                ["--video-stride", "1"],
                ["--video-episodes", "2"],
            )
        ),
        (evaluate_mt10, ["--run"], "--run: expected one argument"),
        (evaluate_mt10, ["--run", "x", "--episodes", "0"], "evaluation_episodes is 0"),
        (evaluate_mt10, ["--run", "x", "--seed", "-1"], "seed is -1"),
        (evaluate_mt10, ["--run", "x", "--workers", "-2"], "workers is -2"),
        (evaluate_mt10, ["--run", "x", "--episode", "1"], "did you mean --episodes?"),
        (evaluate_mt10, ["--run", "x", "--device", "tpu"], "one of auto, cpu, cuda"),
        (report_mt10, [], "give either folders of runs, for a report on them, or --kernels RUN"),
        (report_mt10, ["x", "--kernels", "y"], "give either folders of runs"),
        (report_mt10, ["none"], "there is no folder none; give folders of runs"),
        (report_mt10, ["none", "--last", "0"], "last is 0; it must be at least 1"),
        (
            report_mt10,
            ["--methods", "a,b", "none"],
            "there is no folder none; give folders of runs",
        ),
        (report_mt10, ["none", "--metrics", "mode"], "it must be some of success, iqm, median"),
        (report_mt10, ["none", "--anchors", "table5"], "no anchors 'table5'; --anchors takes"),
        (report_mt10, ["--kernels"], "--kernels: expected at least one argument"),
        (report_mt10, ["--kernels", "none"], "none holds no run: there is no training.csv"),
        (report_mt10, ["--kernel", "x"], "did you mean --kernels?"),
        (report_mt10, ["--kernels", "x", "--least-affinity", "much"], "it must be a finite number"),
        (report_mt10, ["x", "--least-affinity", "0.5"], "least_affinity is an option of --kernels"),
        *(
            (report_mt10, ["--kernels", "x", *argv], f"{argv[0][2:]} is no option of --kernels")
            for argv in (
                ["--title", "t"],
                ["--methods", "equal"],
                ["--metrics", "iqm"],
                ["--last", "3"],
                ["--anchors", "all"],
                ["--evaluate"],
                ["--suite", "a:b"],
                ["--resample", "runs"],
                ["--resamples", "10"],
                ["--force"],
            )
        ),
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


@pytest.mark.parametrize(
    ("chosen", "turns"),
    [({}, "0"), ({"GOMP_SPINCOUNT": "9"}, "9")],
)
def test_idle_threads_sleep_unless_the_user_lets_them_spin(
    chosen: dict[str, str], turns: str
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    others = {name: value for name, value in os.environ.items() if name not in names}
    # A mistake that is found once torch is there, whose OpenMP says what it has read.
    program = "from mtrl_ntk.cli import train_mt10; train_mt10()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--seed=-1"],
        env={**others, **chosen, "OMP_DISPLAY_ENV": "VERBOSE"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    if "GOMP_" not in done.stderr:
        pytest.skip("torch has another OpenMP here")
    assert f"GOMP_SPINCOUNT = '{turns}'" in done.stderr


def test_a_stopped_run_is_one_line_and_the_signals_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: RunConfig) -> None:
        raise Interrupted("stopped by SIGTERM; to go on: train_mt10 --resume", signal.SIGTERM)

    monkeypatch.setattr(training, "train", stop, raising=False)
    line = "train_mt10: stopped by SIGTERM; to go on: train_mt10 --resume\n"
    assert run(train_mt10) == (143, "", line)


def test_a_warning_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(_: RunConfig) -> None:
        warnings.warn("step-7 is damaged;\nstep-5 is used instead", stacklevel=1)

    monkeypatch.setattr(training, "train", warn, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        line = "train_mt10: warning: step-7 is damaged; step-5 is used instead\n"
        assert run(train_mt10) == (0, "", line)
