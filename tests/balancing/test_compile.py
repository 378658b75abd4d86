"""A step of every method compiles as one graph, once, and is the same step but for rounding."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

from mtrl_ntk.balancing import BalancedStep, Balancer, Tape
from mtrl_ntk.balancing.methods import METHODS, fairgrad, nash_mtl
from mtrl_ntk.balancing.solvers import interior_point
from tests.balancing.problems import Problem, make_problem

TASKS = 3


class Descent:
    """Gradient descent in operations that a compiler can follow."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters."""
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.sub_(0.1 * parameter.grad)


class Balanced:
    """A problem whose tasks are balanced."""

    def __init__(self, method: str, problem: Problem) -> None:
        self.problem = problem
        self.weighting = METHODS[method](TASKS, None, problem.num_shared)
        self._balancer = Balancer(
            problem.network, self.weighting, Descent(problem.parameters), max_grad_norm=1.0
        )

    def step(self, noise: Tensor) -> BalancedStep:
        """Takes one step."""
        tape = Tape()
        losses = self.problem.sample_losses(tape)
        return self._balancer.step(
            tape, losses, noise=noise, reevaluate=lambda: self.problem.sample_losses()
        )

    @property
    def state(self) -> list[Tensor]:
        """All that steps change."""
        return [*self.problem.parameters, *self.weighting.buffers()]


@pytest.fixture
def few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations of each solver: more are the same operations, which take long to trace."""
    for module in (fairgrad, interior_point, nash_mtl):
        monkeypatch.setattr(module, "_ITERATIONS", 2)


def assert_same(found: Iterable[Tensor | None], expected: Iterable[Tensor | None]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("few_iterations")
@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_every_method_compiles_as_one_graph(method: str) -> None:
    own = "head" if METHODS[method].needs_representation else "nothing"
    problem = make_problem(num_tasks=TASKS, batch_size=4, own=own)
    plain, compiled = (Balanced(method, deepcopy(problem)) for _ in range(2))
    first, *others = torch.randn(4, *plain.weighting.noise_shape, dtype=torch.float64)
    # A first step asks for memory.
    assert_same(compiled.step(first), plain.step(first))
    torch._dynamo.reset()
    graphs = CompileCounter()
    step = torch.compile(compiled.step, backend=graphs, fullgraph=True, dynamic=False)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        for noise in others:
            assert_same(step(noise), plain.step(noise))
    assert_same(compiled.state, plain.state)
    assert graphs.frame_count == 1
