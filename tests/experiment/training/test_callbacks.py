"""A program is told what happens in a run, can end it, and changes nothing by listening."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mtrl_ntk.experiment.checkpoints.archive import checkpoints, load_newest
from mtrl_ntk.experiment.config import NEWEST, RunConfig
from mtrl_ntk.experiment.training import Callback, RunView, train
from mtrl_ntk.experiment.types import EvaluationResult
from tests.experiment.outcomes import assert_same
from tests.experiment.training.test_run import STEPS, TASKS, WARMSTART, tiny

pytestmark = pytest.mark.usefixtures("no_plots")


class Recorder(Callback):
    """Notes what it is told, and asks for the end where it shall."""

    def __init__(self, end_at: tuple[str, int] | None = None) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.results: list[EvaluationResult] = []
        self.folders: list[Path] = []
        self.run: RunView | None = None
        self._end_at = end_at

    def _note(self, what: str, run: RunView) -> bool:
        self.run, counters = run, run.counters
        self.told.append((what, counters.vector_steps, counters.updates))
        return (what, counters.vector_steps) != self._end_at

    def on_step(self, run: RunView) -> bool:
        return self._note("step", run)

    def on_evaluation(self, run: RunView, result: EvaluationResult) -> bool:
        self.results.append(result)
        return self._note("evaluation", run)

    def on_save(self, run: RunView, folder: Path) -> bool:
        self.folders.append(folder)
        return self._note("save", run)


def config_for(run_dir: Path) -> RunConfig:
    config = tiny(run_dir)
    return replace(config, loop=replace(config.loop, replay_capacity=20))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    train(config_for(run_dir))
    return run_dir


def test_they_are_told_of_everything_in_order_and_change_nothing(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder, silent = Recorder(), Callback()
    result = train(config_for(tmp_path / "run"), callbacks=[silent, recorder], quiet=True)
    assert capsys.readouterr() == ("", "")
    expected = []
    for step in range(1, STEPS + 1):
        updates = max(step - WARMSTART, 0)
        kinds = ("step", "evaluation", "save") if step in (30, STEPS) else ("step",)
        expected += [(kind, step, updates) for kind in kinds]
    assert recorder.told == expected
    assert recorder.results[-1] is result
    assert recorder.folders == checkpoints(tmp_path / "run" / "checkpoint")
    assert recorder.run is not None
    assert (recorder.run.run_dir, recorder.run.config.env.tasks) == (tmp_path / "run", TASKS)
    assert_same(tmp_path / "run", straight)


@pytest.mark.parametrize(
    "end_at",
    [
        ("step", 17),
        *(pytest.param((of, 30), marks=pytest.mark.slow) for of in ("evaluation", "save")),
    ],
)
def test_a_run_that_one_of_them_ends_is_saved_and_goes_on_bit_for_bit(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str], end_at: tuple[str, int]
) -> None:
    config, recorder = config_for(tmp_path / "run"), Recorder(end_at)
    result = train(config, callbacks=[recorder, Callback()])
    assert f"ended after {end_at[1]} steps: a callback wants it" in capsys.readouterr().out
    assert recorder.told[-1][:2] == ("save", end_at[1])
    assert result.task_names == TASKS
    assert not load_newest(tmp_path / "run" / "checkpoint").checkpoint.metadata["finished"]
    train(replace(config, resume=NEWEST), quiet=True)
    assert capsys.readouterr() == ("", "")
    assert_same(tmp_path / "run", straight)


def test_an_exception_leaves_the_run_as_last_saved(tmp_path: Path, straight: Path) -> None:
    class Fault(Callback):
        def on_step(self, run: RunView) -> None:
            if run.counters.vector_steps == 33:
                raise ZeroDivisionError

    config = config_for(tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        train(config, callbacks=[Fault()], quiet=True)
    assert [path.name for path in checkpoints(tmp_path / "run" / "checkpoint")] == [
        "step-000000030"
    ]
    train(replace(config, resume=NEWEST), quiet=True)
    assert_same(tmp_path / "run", straight)


def test_what_a_callback_prints_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Printer(Callback):
        def on_evaluation(self, run: RunView, result: EvaluationResult) -> None:  # noqa: ARG002
            print("evaluated")

    monkeypatch.setenv("FORCE_COLOR", "1")  # which has rich take anything for a terminal
    train(config_for(tmp_path / "run"), callbacks=[Printer()], quiet=True)
    assert capsys.readouterr().out == "evaluated\nevaluated\n"
