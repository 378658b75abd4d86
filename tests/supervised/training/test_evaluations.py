"""An evaluation is of all examples, whatever the batches, and of the network as it stands."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn import functional

from mtrl_ntk.experiment.training.loop import EvaluationStopped
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.supervised.training.evaluations import Plateau, batches, measure
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


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40), st.integers(0, 4), st.integers(0, 40))
def test_a_plateau_takes_the_steps_of_torch_and_goes_on_from_its_state(
    losses: list[float], patience: int, cut: int
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience)
    plateau = Plateau(patience)
    for number, loss in enumerate(losses):
        if number == cut:
            state = json.loads(json.dumps(plateau.state()))
            plateau = Plateau(patience)
            plateau.restore(state)
        plateau.take(loss)
        reference.step(loss)
        assert optimizer.param_groups[0]["lr"] == 0.5**plateau.steps


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
