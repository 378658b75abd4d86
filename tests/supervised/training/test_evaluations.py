"""An evaluation is of all examples, whatever the batches, and of the network as it stands."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from mtrl_ntk.experiment.training.loop import EvaluationStopped
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.supervised.training.evaluations import batches, measure
from mtrl_ntk.supervised.training.run import SupervisedRun
from tests.supervised.runs import tiny


def test_any_batches_give_the_same_numbers_and_they_are_those_of_all_at_once() -> None:
    run = SupervisedRun(tiny(), quiet=True)
    learner, dataset = run.make_learner(), run.dataset
    small, large = (measure(learner, batches(dataset, "test", size)).values for size in (4, 21))
    whole = dataset.batch("test", range(21))
    with torch.no_grad():
        outputs = learner.network(whole.inputs)
    hits = outputs["left"].argmax(1) == whole.targets["left"]
    loss = functional.cross_entropy(outputs["left"], whole.targets["left"])
    assert large["left"]["accuracy"] == pytest.approx(100 * float(hits.float().mean()))
    assert large["left"]["loss"] == pytest.approx(float(loss), rel=1e-5)
    for task in large:
        assert dict(small[task]) == pytest.approx(dict(large[task]), rel=1e-5)


def test_it_ends_early_if_that_is_asked_for() -> None:
    run = SupervisedRun(tiny(), quiet=True)
    stop = StopRequest()
    stop.received = 15  # type: ignore[assignment]
    with pytest.raises(EvaluationStopped):
        measure(run.make_learner(), batches(run.dataset, "test", 4), stop)


def test_nothing_counted_is_no_number() -> None:
    run = SupervisedRun(tiny(), quiet=True)
    scores = measure(run.make_learner(), batches(run.dataset, "test", 21))
    assert not any(math.isnan(v) for of in scores.values.values() for v in of.values())
