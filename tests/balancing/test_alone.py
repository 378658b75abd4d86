"""Methods alone, on Gramians and gradients that are given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from mtrl_ntk.balancing import Weighting, aggregate, weights_of_gramian, weights_of_rows
from mtrl_ntk.balancing.methods import METHODS, ntkmtl
from mtrl_ntk.balancing.weighting import GramianWeighting, NormWeighting
from tests.balancing.problems import make_problem, statistics

REPRESENTED = [name for name, method in METHODS.items() if method.needs_representation]
every_method = pytest.mark.parametrize("method", [n for n in METHODS if n not in REPRESENTED])
of_inner_products = pytest.mark.parametrize(
    "method",
    [n for n, m in METHODS.items() if issubclass(m, (GramianWeighting, NormWeighting))]
    + ["ntkmtl"],
)
LOSSES = torch.tensor([1.0, 20.0, 0.3, 4.0], dtype=torch.float64)


def make(method: str) -> Weighting:
    """A method for four tasks, made as the documentation says."""
    weighting = METHODS[method]
    return weighting(4, weighting.config_class()).double()


@every_method
def test_given_gradients_are_weighed_as_in_training(method: str) -> None:
    problem = make_problem()
    trained, alone = make(method), make(method)
    for fitted in (trained, alone):
        fitted.fit(problem.num_shared)
    rows, losses = problem.sequential().gradients(), problem.sample_losses().mean(1)
    for _ in range(3):
        noise = torch.randn(trained.noise_shape, dtype=torch.float64)
        seen = statistics(trained, problem, noise)
        weights = trained.weigh(seen)
        combined = trained.combine(seen.jacobian, weights)
        state = {name: tensor.clone() for name, tensor in alone.state_dict().items()}
        assert_close(weights_of_rows(alone, rows, losses, noise), weights)
        alone.load_state_dict(state)
        assert_close(aggregate(alone, rows, losses, noise), combined)


@of_inner_products
def test_a_gramian_is_all_that_some_methods_need(method: str) -> None:
    rows = torch.randn(4, 30, dtype=torch.float64)
    noise = torch.randn(make(method).noise_shape, dtype=torch.float64)
    expected = weights_of_rows(make(method), rows, noise=noise)
    assert_close(weights_of_gramian(make(method), rows @ rows.mT, noise=noise), expected)


@pytest.mark.parametrize("method", ["moco", "db_mtl"])
def test_a_gramian_is_not_enough_where_gradients_are_kept(method: str) -> None:
    with pytest.raises(ValueError, match="needs the gradients themselves: call weights_of_rows"):
        weights_of_gramian(make(method), torch.eye(4), LOSSES)


def test_half_precision_is_weighed_in_single_precision() -> None:
    rows = torch.randn(4, 30, dtype=torch.bfloat16)
    assert_close(
        weights_of_rows(METHODS["ntkmtl"](4), rows),
        weights_of_rows(METHODS["ntkmtl"](4), rows.float()),
    )
    assert aggregate(METHODS["ntkmtl"](4), rows).dtype == torch.bfloat16


@pytest.mark.parametrize("method", ["upgrad", "ntkmtl", "mgda"])
def test_preferences_are_those_of_training(method: str) -> None:
    rows = torch.randn(4, 30, dtype=torch.float64)
    preferences = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    given = (None, None, [2, 4, 6, 8])
    known = METHODS[method].knows_preferences
    expected = (
        make(method)(rows @ rows.mT, preferences / 2.5)
        if known
        else weights_of_rows(make(method), rows) * preferences / 2.5
    )
    assert_close(weights_of_rows(make(method), rows, *given), expected)
    assert_close(weights_of_gramian(make(method), rows @ rows.mT, *given), expected)
    assert_close(aggregate(make(method), rows, *given), expected @ rows / 4)


def test_gradients_that_are_given_stay_as_they_are() -> None:
    rows = torch.randn(4, 30)
    rows[1] = torch.nan
    before = rows.clone()
    assert aggregate(METHODS["unit_norm"](4), rows).isfinite().all()
    assert torch.equal(rows.isnan(), before.isnan())


def test_methods_that_look_at_losses_say_so() -> None:
    with pytest.raises(ValueError, match="FAMO looks at the losses: give them as well"):
        weights_of_rows(make("famo"), torch.randn(4, 30))
    with pytest.raises(ValueError, match=r"the losses are \[3\]; they must be \[4\]"):
        weights_of_rows(make("slaw"), torch.randn(4, 30), torch.ones(3))


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.positive_losses])
def test_methods_that_need_positive_losses_say_so(method: str) -> None:
    rows = torch.randn(4, 30, dtype=torch.float64)
    message = r"needs losses of at least zero; they are \[5.0, 5.0, -6.0, 1.0\]"
    with pytest.raises(ValueError, match=message):
        weights_of_rows(make(method), rows, torch.tensor([5.0, 5.0, -6.0, 1.0]))
    assert weights_of_rows(make(method), rows, torch.tensor([5.0, 5.0, 0.0, 1.0])).isfinite().all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the Gramian is \[3, 3\]; it must be \[4, 4\]"):
        weights_of_gramian(make("mgda"), torch.eye(3))
    with pytest.raises(ValueError, match=r"the gradients are \[10, 4\]; they must be \[4, param"):
        weights_of_rows(make("mgda"), torch.ones(10, 4))
    with pytest.raises(ValueError, match="the Gramian is not symmetric"):
        weights_of_gramian(make("mgda"), torch.rand(4, 4))
    anything: Any = [[1.0, 0.0]]
    with pytest.raises(ValueError, match="the Gramian is a list; it must be a tensor"):
        weights_of_gramian(make("mgda"), anything)
    with pytest.raises(ValueError, match="the gradients is a list; it must be a tensor"):
        weights_of_rows(make("mgda"), anything)
    with pytest.raises(ValueError, match="NTKMTLSR asks for kernels of the representation, which"):
        weights_of_rows(METHODS["ntkmtl_sr"](4), torch.ones(4, 4, 10))
    anything = "mgda"
    with pytest.raises(ValueError, match=r"the method is 'mgda'; it must be one made for the task"):
        aggregate(anything, torch.ones(4, 10))
    of_two = ntkmtl.NTKMTL(4, ntkmtl.NTKMTLConfig(num_minibatches=2))
    with pytest.raises(ValueError, match=r"NTKMTL asks for 2 rows per task, not 1: give gradients"):
        weights_of_rows(of_two, torch.ones(4, 10))
    with pytest.raises(ValueError, match=r"NTKMTL asks for 2 rows per task, not 1"):
        weights_of_gramian(of_two, torch.eye(4))
    assert weights_of_rows(of_two, torch.rand(4, 2, 10)).shape == (4,)
    moco = make("moco")
    weights_of_rows(moco, torch.randn(4, 10))
    with pytest.raises(ValueError, match="MoCo was made for 10 shared parameters; the gradients"):
        weights_of_rows(moco, torch.randn(4, 11))
