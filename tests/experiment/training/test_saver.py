"""A run goes on while nothing can be written, and loses nothing once it can be again."""

from __future__ import annotations

import os
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrl_ntk.errors import Interrupted, RunFailed
from mtrl_ntk.experiment.agents import make_agent
from mtrl_ntk.experiment.checkpoints.archive import Archive, checkpoints, load_newest
from mtrl_ntk.experiment.checkpoints.resume import Start
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.files.outages import OutageWarning
from mtrl_ntk.experiment.logs.logger import RunLogger
from mtrl_ntk.experiment.training import (
    assembly,
    evaluations as training_evaluation,
    run as training,
    whole,
)
from mtrl_ntk.experiment.training.disk_space import disk_need
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.experiment.training.trainer import Trainer
from mtrl_ntk.experiment.types import EvaluationResult
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from tests.experiment.full_disks import no_file_larger_than
from tests.experiment.outcomes import assert_same
from tests.experiment.training.test_run import TASKS, StubEnvs, tiny

LIMIT = 1500
"""Bytes of a file: no checkpoint fits into them, and logs only for a while."""


@pytest.fixture(scope="module", autouse=True)
def _only_training() -> Iterator[None]:
    zeros = np.zeros(len(TASKS))
    result = EvaluationResult(TASKS, zeros, zeros, episodes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "plot_run", lambda _: [])
        patch.setattr(assembly, "make_evaluation_envs", lambda *_, **__: StubEnvs())
        patch.setattr(training_evaluation, "evaluate", lambda *_, **__: result)
        yield


def config_for(run_dir: Path) -> RunConfig:
    config = tiny(run_dir)
    return replace(
        config,
        loop=replace(config.loop, log_every=5, replay_capacity=20),
        evaluation=replace(config.evaluation, evaluate_every=15),
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    train(config_for(run_dir))
    return run_dir


def train_through(
    patch: pytest.MonkeyPatch, config: RunConfig, events: dict[int, Callable[[ExitStack], object]]
) -> list[str]:
    """Trains, with something happening at the beginning of some steps; returns the warnings."""
    take_step = Trainer.take_step
    with warnings.catch_warnings(record=True) as said, ExitStack() as stack:
        warnings.simplefilter("always", OutageWarning)

        def take(trainer: Trainer) -> None:
            if event := events.get(trainer.clock.step + 1):
                event(stack)
            take_step(trainer)

        patch.setattr(Trainer, "take_step", take)
        try:
            train(config)
        finally:
            patch.undo()
    return [str(each.message) for each in said]


def fill(stack: ExitStack) -> None:
    stack.enter_context(no_file_larger_than(LIMIT))


def test_a_full_disk_costs_nothing_but_checkpoints(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[list[str]] = []

    def look(_: object) -> None:
        saved.append([path.name for path in checkpoints(tmp_path / "run" / "checkpoint")])

    def free(stack: ExitStack) -> None:
        look(stack)
        stack.pop_all().close()

    config = config_for(tmp_path / "run")
    said = train_through(monkeypatch, config, {18: fill, 33: free, 36: look})
    # The save of step 30 has failed; the row of step 35 tries again.
    assert saved == [["step-000000015"], ["step-000000015", "step-000000035"]]
    about_saving = [text for text in said if "checkpoint into" in text]
    assert len(about_saving) == 2
    assert "File too large" in about_saving[0]
    assert "training goes on, the newest checkpoint is of step 15" in about_saving[0]
    assert about_saving[1].endswith("can be written again")
    assert len(said) == len(set(said)) <= 8
    assert any("training.csv" in text for text in said)
    assert not list((tmp_path / "run" / "checkpoint").glob("**/.*"))
    assert_same(tmp_path / "run", straight)


def test_an_end_that_cannot_be_saved_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        RunFailed, match=r"reached its end, .*not be saved: .*too large.*; .* is of step 15$"
    ):
        train_through(monkeypatch, config_for(tmp_path / "run"), {18: fill})
    assert load_newest(tmp_path / "run" / "checkpoint", replay=True).folder.name.endswith("15")
    rows = (tmp_path / "run" / "evaluation.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * (len(TASKS) + 1)


def test_a_stop_that_cannot_be_saved_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: ExitStack) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    config = config_for(tmp_path / "run")
    with pytest.raises(
        RunFailed, match=r"stopped by SIGTERM after 23 steps, .*step 15; .*--resume"
    ):
        train_through(monkeypatch, config, {18: fill, 23: stop})


def test_a_stop_while_saving_waits_for_the_end_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Archive.save

    def save_interrupted(*given: Any) -> Path:  # noqa: ANN401
        os.kill(os.getpid(), signal.SIGTERM)
        return save(*given)

    monkeypatch.setattr(Archive, "save", save_interrupted)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after 15 steps"):
        train(config_for(tmp_path / "run"))
    newest = load_newest(tmp_path / "run" / "checkpoint", replay=True)
    assert newest.folder.name == "step-000000015"


def test_settings_that_could_not_be_written_are_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = whole._describe
    limits = iter([0, resource.RLIM_INFINITY])

    def describe_within_limits(
        run: whole.Undertaking[EvaluationResult], start: Start | None, logger: RunLogger
    ) -> bool:
        with no_file_larger_than(next(limits)):
            return describe(run, start, logger)

    monkeypatch.setattr(whole, "_describe", describe_within_limits)
    with (
        pytest.warns(OutageWarning, match=r"config\.yaml and run\.json .* can be written again"),
        pytest.warns(OutageWarning, match=r"cannot write config\.yaml and run\.json"),
    ):
        train(config_for(tmp_path / "run"))
    assert (tmp_path / "run" / "config.yaml").stat().st_size > 0
    assert (tmp_path / "run" / "run.json").stat().st_size > 0


def test_the_estimated_room_is_enough_for_what_a_run_writes(straight: Path) -> None:
    config = config_for(straight)
    cpu = torch.device("cpu")
    replay = MultiTaskReplayBuffer(
        len(TASKS),
        config.loop.replay_capacity,
        OBSERVATION_DIM,
        ACTION_DIM,
        device=cpu,
        generator=torch.Generator(),
    )
    need = disk_need(config, make_agent(config, len(TASKS), cpu), replay)
    newest = checkpoints(straight / "checkpoint")[-1]
    assert size_of(newest) < need.checkpoint
    assert size_of(straight) < need.most


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
