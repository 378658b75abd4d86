"""A program is told what happens in a supervised run, can end it, and changes nothing by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.config import NEWEST
from mtrl_ntk.supervised.scores import Scores
from mtrl_ntk.supervised.training.callbacks import SupervisedCallback, SupervisedView
from mtrl_ntk.supervised.training.run import train
from tests.supervised.runs import BATCHES, EPOCHS, tiny

UPDATES = BATCHES * EPOCHS


class Recorder(SupervisedCallback):
    """Notes what it is told, and asks for the end at an update."""

    def __init__(self, end_at: int = -1) -> None:
        self.told: list[tuple[str, int]] = []
        self.results: list[Scores] = []
        self._end_at = end_at

    def _note(self, what: str, run: SupervisedView) -> bool:
        self.told.append((what, run.counters.updates))
        return run.counters.updates != self._end_at

    def on_step(self, run: SupervisedView) -> bool:
        assert next(run.learner.network.parameters()).requires_grad
        return self._note("step", run)

    def on_evaluation(self, run: SupervisedView, result: Scores) -> bool:
        self.results.append(result)
        return self._note("evaluation", run)

    def on_save(self, run: SupervisedView, folder: Path) -> bool:
        assert folder.is_relative_to(run.run_dir)
        assert run.config.epochs.epochs == EPOCHS
        return self._note("save", run)


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return dict(load_newest(run_dir / "checkpoint").checkpoint.tensors)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    train(tiny(run_dir), quiet=True)
    return weights(run_dir)


def test_they_are_told_of_everything_in_order(
    tmp_path: Path, straight: dict[str, torch.Tensor]
) -> None:
    recorder = Recorder()
    result = train(tiny(tmp_path / "run"), callbacks=[recorder], quiet=True)
    expected = []
    for update in range(1, UPDATES + 1):
        kinds = ("step",) if update % BATCHES else ("step", "evaluation", "save")
        expected += [(kind, update) for kind in kinds]
    assert recorder.told == expected
    assert recorder.results[-1] is result
    found = weights(tmp_path / "run")
    assert all(torch.equal(found[name], straight[name]) for name in straight)


def test_one_of_them_can_end_a_run_that_then_goes_on_bit_for_bit(
    tmp_path: Path, straight: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path / "run")
    train(config, callbacks=[Recorder(end_at=3), SupervisedCallback()])
    assert "ended after 3 steps: a callback wants it" in capsys.readouterr().out
    assert not load_newest(tmp_path / "run" / "checkpoint").checkpoint.metadata["finished"]
    train(replace(config, resume=NEWEST), quiet=True)
    found = weights(tmp_path / "run")
    assert all(torch.equal(found[name], straight[name]) for name in straight)
