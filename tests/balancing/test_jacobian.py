"""The factored Jacobian against the sequential one, and what both promise of broken tasks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing import Jacobian, Request, Tape, Workspace, factored_jacobian
from mtrl_ntk.balancing.factors import parameters_of
from mtrl_ntk.balancing.jacobian import Path
from tests.balancing.problems import Problem, make_problem

assert_very_close = partial(assert_close, rtol=1e-12, atol=1e-12)

architectures = st.fixed_dictionaries(
    {
        "num_tasks": st.integers(1, 6),
        "dims": st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple),
        "layer_norm": st.booleans(),
        "bias": st.booleans(),
        "own": st.sampled_from(["nothing", "head", "all", "embedding"]),
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
        (jacobian.rows(), reference.rows()),
        (jacobian.combine(weights), reference.combine(weights)),
        (jacobian.own_gradients(), reference.own_gradients()),
    ):
        if not expected.numel():
            assert answer.shape == expected.shape
            continue
        scale = expected.abs().max().clamp(min=1e-300)
        assert_very_close(answer / scale, expected / scale)
    assert torch.equal(jacobian.finite, reference.finite)


@given(
    architecture=architectures,
    num_minibatches=st.integers(1, 4),
    rows=st.integers(1, 5),
    path=st.sampled_from(["auto", "direct", "ghost"]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=100, deadline=None)
def test_factored_agrees_with_sequential_autograd(
    architecture: dict[str, object], num_minibatches: int, rows: int, path: Path, seed: int
) -> None:
    torch.manual_seed(seed)
    problem = make_problem(batch_size=num_minibatches * rows, **architecture)  # type: ignore[arg-type]
    assert_same(problem.factored(num_minibatches, path), problem.sequential(num_minibatches))


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
    combined = factored_jacobian(tape, losses).combine(torch.ones(4, dtype=torch.float64))
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
    assert_close(jacobian.gradients(), gradients)
    assert_close(jacobian.kernels(), rows @ rows.mT)
    assert_close(jacobian.extended_kernel(), rows.flatten(0, 1) @ rows.flatten(0, 1).T)
    assert_close(jacobian.gramian(), gradients @ gradients.T)
    assert_close(jacobian.squared_norms(), gradients.square().sum(1))


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["inputs", "targets"])
@pytest.mark.parametrize("num_minibatches", [1, 2])
@pytest.mark.parametrize("path", ["direct", "ghost"])
@pytest.mark.parametrize("own", ["nothing", "head", "embedding"])
def test_a_broken_task_touches_no_other(
    broken: float, where: str, num_minibatches: int, path: Path, own: str
) -> None:
    problem = make_problem(own=own, layer_norm=True)
    healthy = problem.factored(num_minibatches, path)
    getattr(problem, where)[2, 1, 0] = broken
    jacobian = problem.factored(num_minibatches, path)
    others = torch.tensor([0, 1, 3])
    weights = torch.tensor([0.3, 1.0, 0.0, 2.0], dtype=torch.float64)

    assert jacobian.finite.tolist() == [True, True, False, True]
    assert_close(jacobian.gramian()[others][:, others], healthy.gramian()[others][:, others])
    assert_close(jacobian.kernels()[others], healthy.kernels()[others])
    assert_close(jacobian.combine(weights), healthy.combine(weights))
    assert_close(jacobian.own_gradients()[others], healthy.own_gradients()[others])
    assert not jacobian.gramian()[2].any()
    assert not jacobian.rows()[2].any()
    assert not jacobian.own_gradients()[2].any()


def test_a_gradient_too_large_to_square_counts_as_broken() -> None:
    problem = make_problem(dtype=torch.float32)
    problem.scales[1] = 1e30
    jacobian = problem.factored()
    assert jacobian.finite.tolist() == [True, False, True, True]
    assert jacobian.gramian().isfinite().all()


def test_uneven_minibatches_are_refused(problem: Problem) -> None:
    with pytest.raises(ValueError, match="6 rows per task cannot be split into 4"):
        problem.factored(num_minibatches=4)


def wide_problem(batch_size: int) -> Problem:
    """Rows of the first layer that do not fit in a cache, and of a second that do."""
    return make_problem(num_tasks=2, batch_size=batch_size, dims=(600, 600, 1))


class RecordingWorkspace(Workspace):
    """Remembers how many columns it was asked for."""

    num_columns = -1

    def rows(self, like: Tensor, *shape: int) -> Tensor:
        """See the base class."""
        self.num_columns = shape[-1]
        return super().rows(like, *shape)


@pytest.mark.parametrize(("needs_rows", "unwritten"), [(False, 600 * 600 + 600), (True, 0)])
def test_rows_are_written_where_they_are_needed(*, needs_rows: bool, unwritten: int) -> None:
    problem, workspace, tape = wide_problem(6), RecordingWorkspace(), Tape()
    losses = problem.sample_losses(tape)
    factored_jacobian(tape, losses, Request(needs_rows=needs_rows), workspace)
    num_parameters = sum(parameter.numel() for parameter in problem.parameters)
    assert workspace.num_columns == num_parameters - unwritten


def test_memory_for_the_rows_is_asked_for_once() -> None:
    workspace, like = Workspace(), torch.zeros(1)
    rows = workspace.rows(like, 2, 1, 5)
    assert workspace.rows(like, 2, 1, 5) is rows
    assert workspace.rows(like, 2, 1, 6) is not rows


def output_rows(problem: Problem) -> Tensor:
    """Gradient of every output of every row, ``[tasks, outputs * batch, parameters]``."""
    tape = Tape()
    problem.sample_losses(tape)
    outputs = tape.shared[-1].outputs
    rows: list[Tensor] = [
        torch.cat([g.flatten() for g in torch.autograd.grad(output, shared, retain_graph=True)])
        for shared in [parameters_of(tape.shared)]
        for task in outputs
        for output in task.T.flatten()
    ]
    matrices: Tensor = torch.stack(rows).unflatten(0, (len(outputs), -1))
    return matrices


@pytest.mark.parametrize("own", ["nothing", "embedding"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_output_kernels_agree_with_autograd_per_sample(own: str, *, layer_norm: bool) -> None:
    problem = make_problem(own=own, layer_norm=layer_norm, batch_size=4)
    rows = output_rows(problem)
    jacobian = problem.factored(source="output")
    assert_very_close(jacobian.output_kernels(), rows @ rows.mT)
    assert_same(jacobian, problem.sequential())


@pytest.mark.parametrize("num_minibatches", [1, 2, 4])
def test_representation_kernels_follow_equation_17(num_minibatches: int) -> None:
    problem = make_problem(own="head", batch_size=8)
    representation = torch.tanh(problem.network.layers[0](problem.inputs)).detach()
    representation.requires_grad_()
    outputs = torch.tanh(problem.network.layers[1](representation))
    losses = problem.scales[:, None] * (outputs - problem.targets).square().sum(2)
    parts = losses.unflatten(1, (num_minibatches, -1)).mean(2)
    (gradients,) = torch.autograd.grad(parts.sum(), [representation])
    gradients = gradients.unflatten(1, (num_minibatches, -1))
    jacobian = problem.factored(num_minibatches, source="representation")
    summed = gradients.sum(2)
    assert_very_close(jacobian.representation_kernels(), summed @ summed.mT)
    diagonal = jacobian.representation_kernels(across_rows=False)
    assert_very_close(diagonal, torch.diag_embed(gradients.square().sum((2, 3))))


def test_kernels_that_were_not_asked_for_are_not_there(problem: Problem) -> None:
    jacobian = problem.factored()
    with pytest.raises(ValueError, match="outputs' kernels"):
        jacobian.output_kernels()
    with pytest.raises(ValueError, match="representation"):
        jacobian.representation_kernels()
    with pytest.raises(ValueError, match="no layers of the tasks' own"):
        problem.factored(source="representation")


def test_no_weight_gradient_is_computed_by_autograd(problem: Problem) -> None:
    problem.factored()
    assert all(parameter.grad is None for parameter in problem.parameters)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("num_minibatches", 0, "num_minibatches is 0; it must be at least 1"),
        ("num_minibatches", 1.5, "num_minibatches is 1.5; it must be a whole number"),
        ("num_minibatches", float("nan"), "num_minibatches is nan; it must be a whole number"),
        ("kernel_source", "outputs", "must be one of loss, output, representation"),
    ],
)
def test_requests_that_cannot_be_meant_are_refused(field: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Request(**{field: value})  # type: ignore[arg-type]
