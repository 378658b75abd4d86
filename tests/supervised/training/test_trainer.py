"""Each epoch learns from every example at most once, in an order of the seed's and its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.logs.metrics import MetricMeans
from mtrl_ntk.supervised.config import SUPERVISED
from mtrl_ntk.supervised.training.learner import Learner
from mtrl_ntk.supervised.training.run import SupervisedRun
from mtrl_ntk.supervised.training.trainer import EpochTrainer
from tests.supervised.datasets.files_of_others import write_celeba
from tests.supervised.runs import BATCHES, tiny


def trainer_of(**settings: object) -> EpochTrainer:
    run = SupervisedRun(tiny(None, **settings), quiet=True)
    learner, clock = run.make_learner(), run.make_clock()
    return EpochTrainer(run.config, run.dataset, learner, clock, MetricMeans())


def inputs(trainer: EpochTrainer, updates: int) -> list[torch.Tensor]:
    found = []
    for _ in range(updates):
        found.append(trainer.next_batch()["inputs"])
        trainer.take_step()
    return found


def test_an_epoch_takes_examples_once_and_the_next_in_another_order() -> None:
    trainer = trainer_of()
    batches = inputs(trainer, 2 * BATCHES)
    first, second = (torch.cat(part).flatten(1) for part in (batches[:BATCHES], batches[BATCHES:]))
    assert len(first.unique(dim=0)) >= len(first) - 1  # two pairs may be the same
    assert not torch.equal(first, second)
    assert trainer._clock.counters.examples == 2 * BATCHES * 8


def test_batches_do_not_depend_on_what_went_before() -> None:
    there, here = trainer_of(), trainer_of(method="equal")
    batches = inputs(there, BATCHES + 2)
    here._clock.step = BATCHES + 1
    assert torch.equal(here.next_batch()["inputs"], batches[-1])


def test_the_global_stream_is_left_alone() -> None:
    trainer = trainer_of(method="rlw")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer.take_step()
    assert torch.equal(torch.rand(3), expected)


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 8; it must be at most 5"):
        trainer_of(train_pairs=5)


def test_a_plateau_needs_something_to_choose_by(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path)
    file = folder / "Eval/list_eval_partition.txt"
    file.write_text(file.read_text().replace(" 1\n", " 0\n"))
    settings = {"dataset": "celeba", "data_dir": str(folder), "schedule": "plateau"}
    sizes = {"batch_size": 2, "image_size": 8, "width": 1, "device": "cpu"}
    run = SupervisedRun(SUPERVISED.from_dict({**settings, **sizes}), quiet=True)
    with pytest.raises(ConfigError, match="a validation split, which is empty in these data"):
        EpochTrainer(run.config, run.dataset, run.make_learner(), run.make_clock(), MetricMeans())


def test_what_a_method_cannot_balance_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("needs positive losses")

    monkeypatch.setattr(Learner, "update", refuse)
    with pytest.raises(UserError, match="method ntkmtl_sr cannot go on: needs positive losses"):
        trainer_of().take_step()


def test_learning_rates_follow_their_schedule() -> None:
    epochs = tiny(epochs=10, learning_rate=1.0, step_epochs=4).epochs
    assert [epochs.rate(epoch) for epoch in (0, 9)] == [1, 1]
    steps = tiny(epochs=10, learning_rate=1.0, schedule="steps", step_epochs=4).epochs
    assert [steps.rate(epoch) for epoch in (0, 3, 4, 7, 8)] == [1, 1, 0.5, 0.5, 0.25]
    cosine = tiny(epochs=10, learning_rate=1.0, schedule="cosine").epochs
    assert [cosine.rate(epoch) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
