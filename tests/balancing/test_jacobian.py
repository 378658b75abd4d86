"""The factored Jacobian against the sequential one, and what both promise of broken tasks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.testing import assert_close

from mtrl_ntk.balancing import Jacobian, Tape, factored_jacobian
from tests.balancing.problems import Problem, make_problem

assert_very_close = partial(assert_close, rtol=1e-12, atol=1e-12)

architectures = st.fixed_dictionaries(
    {
        "num_tasks": st.integers(1, 6),
        "dims": st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple),
        "layer_norm": st.booleans(),
        "bias": st.booleans(),
    }
)


def assert_same(jacobian: Jacobian, reference: Jacobian) -> None:
    """Compares all that a Jacobian can be asked, relative to each answer's own scale."""
    weights = torch.rand(jacobian.num_tasks, dtype=torch.float64)
    for answer, expected in (
        (jacobian.kernels(), reference.kernels()),
        (jacobian.extended_kernel(), reference.extended_kernel()),
        (jacobian.gramian(), reference.gramian()),
        (jacobian.squared_norms(), reference.squared_norms()),
        (jacobian.combine(weights), reference.combine(weights)),
    ):
        scale = expected.abs().max().clamp(min=1e-300)
        assert_very_close(answer / scale, expected / scale)
    assert torch.equal(jacobian.finite, reference.finite)


@given(
    architecture=architectures,
    num_minibatches=st.integers(1, 4),
    rows=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_factored_agrees_with_sequential_autograd(
    architecture: dict[str, object], num_minibatches: int, rows: int, seed: int
) -> None:
    torch.manual_seed(seed)
    problem = make_problem(batch_size=num_minibatches * rows, **architecture)  # type: ignore[arg-type]
    assert_same(problem.factored(num_minibatches), problem.sequential(num_minibatches))


def test_sequential_rows_are_gradients_of_minibatch_means(problem: Problem) -> None:
    rows = problem.sequential(num_minibatches=3).rows()
    losses = problem.sample_losses().unflatten(1, (3, 2)).mean(2)
    for task in range(4):
        for minibatch in range(3):
            gradients = torch.autograd.grad(
                losses[task, minibatch], problem.parameters, retain_graph=True
            )
            expected = torch.cat([gradient.flatten() for gradient in gradients])
            assert_very_close(rows[task, minibatch], expected)


def test_unit_weights_give_the_gradient_of_the_mean_loss(problem: Problem) -> None:
    tape = Tape()
    losses = problem.sample_losses(tape)
    combined = factored_jacobian(tape, losses, problem.rows()).combine(
        torch.ones(4, dtype=torch.float64)
    )
    expected = torch.autograd.grad(problem.sample_losses().mean(), problem.parameters)
    assert_very_close(combined, torch.cat([gradient.flatten() for gradient in expected]))


@pytest.mark.parametrize("num_minibatches", [2, 3])
def test_minibatches_change_neither_gramian_nor_gradient(
    problem: Problem, num_minibatches: int
) -> None:
    whole, split = problem.factored(), problem.factored(num_minibatches)
    weights = torch.rand(4, dtype=torch.float64)
    assert_very_close(split.gramian(), whole.gramian())
    assert_very_close(split.combine(weights), whole.combine(weights))


def test_rows_explain_all_other_answers(problem: Problem) -> None:
    jacobian = problem.factored(num_minibatches=2)
    rows = jacobian.rows()
    gradients = rows.mean(1)
    assert_close(jacobian.kernels(), rows @ rows.mT)
    assert_close(jacobian.extended_kernel(), rows.flatten(0, 1) @ rows.flatten(0, 1).T)
    assert_close(jacobian.gramian(), gradients @ gradients.T)
    assert_close(jacobian.squared_norms(), gradients.square().sum(1))


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["inputs", "targets"])
@pytest.mark.parametrize("num_minibatches", [1, 2])
def test_a_broken_task_touches_no_other(
    problem: Problem, broken: float, where: str, num_minibatches: int
) -> None:
    healthy = problem.factored(num_minibatches)
    getattr(problem, where)[2, 1, 0] = broken
    jacobian = problem.factored(num_minibatches)
    others = torch.tensor([0, 1, 3])
    weights = torch.tensor([0.3, 1.0, 0.0, 2.0], dtype=torch.float64)

    assert jacobian.finite.tolist() == [True, True, False, True]
    assert_close(jacobian.gramian()[others][:, others], healthy.gramian()[others][:, others])
    assert_close(jacobian.kernels()[others], healthy.kernels()[others])
    assert_close(jacobian.combine(weights), healthy.combine(weights))
    assert not jacobian.gramian()[2].any()
    assert not jacobian.rows()[2].any()


def test_a_gradient_too_large_to_square_counts_as_broken() -> None:
    problem = make_problem(dtype=torch.float32)
    problem.scales[1] = 1e30
    jacobian = problem.factored()
    assert jacobian.finite.tolist() == [True, False, True, True]
    assert jacobian.gramian().isfinite().all()


def test_uneven_minibatches_are_refused(problem: Problem) -> None:
    with pytest.raises(ValueError, match="6 rows per task cannot be split into 4"):
        problem.factored(num_minibatches=4)


def test_no_weight_gradient_is_computed_by_autograd(problem: Problem) -> None:
    problem.factored()
    assert all(parameter.grad is None for parameter in problem.parameters)


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(TypeError, match="a tape cannot record Conv1d"):
        Tape()(nn.Conv1d(1, 1, 1), torch.zeros(2, 3, 1))
    with pytest.raises(TypeError, match="a tape cannot record LayerNorm"):
        Tape()(nn.LayerNorm(4, bias=False), torch.zeros(2, 3, 4))


def test_taped_layers_return_what_plain_layers_return() -> None:
    inputs = torch.randn(2, 3, 4)
    for layer in (nn.Linear(4, 5), nn.LayerNorm(4), nn.ReLU()):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_()
        assert_close(Tape()(layer, inputs), layer(inputs))
