"""Gradients of losses by autograd: which way pays, and what passes leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mtrl_ntk.balancing.loss_graph import (
    ROWS_AT_ONCE,
    Columns,
    LossGraph,
    at_least_float32,
    combine,
    one_hot,
    write_rows,
)
from tests.balancing.networks import make_shared_input


class _Cube(torch.autograd.Function):
    """Cannot be batched, as it says no rule for it."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, inputs: Tensor) -> Tensor:
        """Cubes."""
        context.save_for_backward(inputs)
        return inputs**3

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        """The gradient, which looks at numbers."""
        (inputs,) = context.saved_tensors  # type: ignore[attr-defined]
        return torch.from_numpy(gradient.numpy() * 3 * inputs.numpy() ** 2)


@pytest.mark.parametrize(
    ("trunk", "expected"), [("linear", ROWS_AT_ONCE), ("convolutions", 1), ("attention", 1)]
)
def test_convolutions_and_attention_are_not_batched(trunk: str, expected: int) -> None:
    problem = make_shared_input(trunk)
    graph = LossGraph(problem.losses(), 3, 1)
    assert graph.rows_at_once(problem.shared, None) == expected


@pytest.mark.parametrize(("width", "expected"), [(100, ROWS_AT_ONCE), (400, 1)])
def test_what_fills_the_caches_is_not_batched(width: int, expected: int) -> None:
    layer = nn.Linear(width, width)
    graph = LossGraph(layer(torch.ones(2, width)).square().mean(1), 2, 1)
    assert graph.rows_at_once(list(layer.parameters()), None) == expected
    assert graph.rows_at_once(list(layer.parameters()), 2) == 2


def test_what_cannot_be_batched_is_not() -> None:
    weight = nn.Parameter(torch.ones(3))
    cubes: Tensor = _Cube.apply(weight)  # type: ignore[no-untyped-call]
    graph = LossGraph([cubes.sum(), weight.sum()], 2, 1)
    assert graph.rows_at_once([weight], None) == graph.rows_at_once([weight], 4) == 1


@pytest.mark.parametrize("rows_at_once", [1, 2])
def test_heads_of_other_tasks_are_left_alone(rows_at_once: int) -> None:
    problem = make_shared_input()
    calls: list[int] = []
    for index, head in enumerate(problem.network.heads):
        head.register_full_backward_hook(lambda *_, index=index: calls.append(index))
    columns = Columns(problem.shared)
    rows = torch.empty(3, 1, columns.num_entries, dtype=torch.float64)
    write_rows(LossGraph(torch.stack(problem.losses()), 3, 1), columns, rows, rows_at_once)
    assert sorted(calls) == [0, 1, 2]
    assert_close(rows, problem.rows())


def test_combinations_are_those_of_the_rows() -> None:
    problem = make_shared_input()
    graph = LossGraph(problem.sample_losses(), 3, 4)
    coefficients = torch.randn(3, 4, dtype=torch.float64)
    coefficients[1] = 0
    combined = combine(graph, Columns(problem.shared), coefficients)
    assert_close(combined, torch.einsum("tn,tnp->p", coefficients, problem.rows(4)))


def test_a_constant_loss_has_no_gradient() -> None:
    weight = nn.Parameter(torch.ones(2))
    columns = Columns([weight])
    for losses in ([weight.sum(), torch.ones(())], torch.stack([weight.sum(), torch.ones(())])):
        rows = torch.full((2, 1, 2), torch.nan)
        write_rows(LossGraph(losses, 2, 1), columns, rows, 1)
        assert rows[:, 0].tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_one_hot_chooses_losses_in_order() -> None:
    chosen = one_hot(range(2, 4), torch.zeros(2, 3))
    assert chosen.nonzero().tolist() == [[0, 0, 2], [1, 1, 0]]


def test_precisions_are_promoted_to_float32_at_least() -> None:
    half, single, double = (torch.zeros(1, dtype=getattr(torch, f"float{n}")) for n in (16, 32, 64))
    assert at_least_float32(half) == at_least_float32(half, single) == torch.float32
    assert at_least_float32(half, double) == torch.float64
