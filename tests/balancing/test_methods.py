"""What every balancing method promises; a new one in ``METHODS`` is tested here for free."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing import Jacobian, Weighting
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.representation import Representation
from mtrl_ntk.balancing.weighting import Statistics
from mtrl_ntk.errors import ConfigError
from tests.balancing.problems import Problem, make_problem, statistics

every_method = pytest.mark.parametrize("method", METHODS)
signed_methods = [name for name, method in METHODS.items() if not method.positive_losses]

STEPS = 3
"""Calls of a method in a row, for those with a state."""


def make_method(method: str, problem: Problem) -> Weighting:
    """A fresh instance for the problem."""
    num_tasks, dtype = len(problem.inputs), problem.inputs.dtype
    return METHODS[method](num_tasks, None, problem.num_shared).to(dtype)


def make_noise(weighting: Weighting, problem: Problem) -> Tensor:
    """Random numbers of the shape that the method asks for."""
    return torch.randn(weighting.noise_shape, dtype=problem.inputs.dtype)


def step(weighting: Weighting, seen: Statistics) -> tuple[Tensor, Tensor]:
    """Weights and combined gradient of one call; the losses halve in the step."""
    weights = weighting.weigh(seen)
    gradient = weighting.combine(seen.jacobian, weights)
    if weighting.observes_step:
        weighting.observe(seen.task_losses * torch.linspace(0.5, 0.9, weighting.num_tasks))
    return weights, gradient


def permuted(problem: Problem, order: Tensor) -> Problem:
    """The same problem with its tasks, and their own layers, in another order."""
    other = make_problem(own="head", batch_size=8)
    state = problem.network.state_dict()
    own = {id(p) for layer in problem.own_layers for p in layer.parameters()}
    names = {name for name, p in problem.network.named_parameters() if id(p) in own}
    other.network.load_state_dict(
        {name: tensor[order] if name in names else tensor for name, tensor in state.items()}
    )
    return Problem(
        other.network, problem.inputs[order], problem.targets[order], problem.scales[order]
    )


def permuted_noise(noise: Tensor, order: Tensor) -> Tensor:
    """The same random numbers for each task, or for each pair of tasks."""
    for axis, size in enumerate(noise.shape):
        if size == len(order):
            noise = noise.index_select(axis, order)
    return noise


@every_method
def test_permuting_tasks_permutes_weights(method: str) -> None:
    problem, order = make_problem(own="head", batch_size=8), torch.tensor([2, 0, 3, 1])
    shuffled = permuted(problem, order)
    weighting, other = make_method(method, problem), make_method(method, shuffled)
    for _ in range(STEPS):
        noise = make_noise(weighting, problem)
        weights, gradient = _step_with_ordered_losses(weighting, problem, noise, range(4))
        result = _step_with_ordered_losses(
            other, shuffled, permuted_noise(noise, order), order.tolist()
        )
        assert_close(result[0], weights[order])
        assert_close(result[1], gradient)


def _step_with_ordered_losses(
    weighting: Weighting, problem: Problem, noise: Tensor, order: range | list[int]
) -> tuple[Tensor, Tensor]:
    """One call after which each task's loss falls by a factor of its own."""
    seen = statistics(weighting, problem, noise)
    weights = weighting.weigh(seen)
    gradient = weighting.combine(seen.jacobian, weights)
    if weighting.observes_step:
        factors = torch.linspace(0.5, 0.9, 4, dtype=torch.float64)[list(order)]
        weighting.observe(seen.task_losses * factors)
    return weights, gradient


@every_method
@pytest.mark.parametrize(
    ("num_tasks", "dtype"),
    [(1, torch.float32), (2, torch.float64), (10, torch.float32), (50, torch.float64)],
)
def test_weights_are_finite_for_any_number_of_tasks(
    method: str, num_tasks: int, dtype: torch.dtype
) -> None:
    problem = make_problem(num_tasks=num_tasks, own="head", batch_size=8, dtype=dtype)
    weighting = make_method(method, problem)
    for _ in range(STEPS):
        seen = statistics(weighting, problem, make_noise(weighting, problem))
        weights, gradient = step(weighting, seen)
        assert weights.shape == (num_tasks,)
        assert weights.dtype == gradient.dtype == dtype
        assert weights.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient.shape == (weighting.num_parameters,)


@every_method
def test_one_task_is_descended(method: str) -> None:
    problem = make_problem(num_tasks=1, own="head", batch_size=8)
    weighting = make_method(method, problem)
    seen = statistics(weighting, problem, make_noise(weighting, problem))
    _, gradient = step(weighting, seen)
    assert gradient @ seen.jacobian.combine(torch.ones(1, dtype=torch.float64)) >= 0


def hard_rows(kind: str, num_tasks: int, dtype: torch.dtype) -> Tensor:
    """Gradients ``[tasks, 60]`` that are hard on a solver."""
    rows = torch.randn(num_tasks, 60, dtype=dtype)
    if kind == "zero row":
        rows[0] = 0.0
    elif kind == "zeros":
        rows.zero_()
    elif kind == "duplicates":
        rows[num_tasks // 2] = rows[0]
    elif kind == "opposites":
        rows[num_tasks // 2] = -rows[0]
    elif kind == "rank one":
        rows = torch.linspace(-1, 2, num_tasks, dtype=dtype)[:, None] * rows[:1]
    elif kind == "scales":
        rows *= 10.0 ** torch.linspace(-12, 12, num_tasks, dtype=dtype)[:, None]
    elif kind == "vanishing":
        rows *= 1e-18
    elif kind == "huge":
        rows *= 1e12
    return rows


HARD = ["zero row", "zeros", "duplicates", "opposites", "rank one", "scales", "vanishing", "huge"]


def made_up(weighting: Weighting, rows: Tensor, losses: Tensor) -> Statistics:
    """What a method sees of given gradients and losses."""
    spread = rows[:, None].repeat(1, weighting.num_minibatches, 1)
    jacobian = Jacobian(spread, representation=Representation(spread.clone()[:, :, None]))
    noise = torch.randn(weighting.noise_shape, dtype=rows.dtype)
    return Statistics(jacobian, losses, weighting.kernels(jacobian), noise)


@every_method
@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize(("num_tasks", "dtype"), [(2, torch.float64), (10, torch.float32)])
def test_hard_gradients_give_finite_weights(
    method: str, kind: str, num_tasks: int, dtype: torch.dtype
) -> None:
    weighting = METHODS[method](num_tasks, None, 60).to(dtype)
    losses = torch.rand(num_tasks, dtype=dtype) + 0.1
    for _ in range(STEPS):
        seen = made_up(weighting, hard_rows(kind, num_tasks, dtype), losses)
        weights, gradient = step(weighting, seen)
        assert weights.isfinite().all()
        assert gradient.isfinite().all()
        if weighting.residual is not None:
            assert weighting.residual.isfinite()


@pytest.mark.parametrize("method", signed_methods)
@pytest.mark.parametrize("level", [-1e6, -1.0, 0.0])
def test_losses_of_any_sign_give_finite_weights(method: str, level: float) -> None:
    weighting = METHODS[method](3, None, 60).double()
    for _ in range(STEPS):
        rows = hard_rows("", 3, torch.float64)
        losses = level * torch.tensor([1.0, 1e-3, 2.0], dtype=torch.float64)
        weights, gradient = step(weighting, made_up(weighting, rows, losses))
        assert weights.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("method", [name for name in METHODS if name not in signed_methods])
def test_vanishing_losses_give_finite_weights(method: str) -> None:
    weighting = METHODS[method](3, None, 60)
    for losses in ([1.0, 1e-30, 2.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1e30, 1.0, 1e-30]):
        rows = hard_rows("", 3, torch.float32)
        weights, gradient = step(weighting, made_up(weighting, rows, torch.tensor(losses)))
        assert weights.isfinite().all()
        assert gradient.isfinite().all()


def steps(weighting: Weighting, problem: Problem, noises: list[Tensor]) -> Iterator[Tensor]:
    """Weights of some calls in a row."""
    for noise in noises:
        yield step(weighting, statistics(weighting, problem, noise))[0]


@every_method
def test_a_loaded_state_goes_on_where_it_was_saved(method: str) -> None:
    problem = make_problem(own="head", batch_size=8)
    weighting, other = make_method(method, problem), make_method(method, problem)
    noises = [make_noise(weighting, problem) for _ in range(2 * STEPS)]
    list(steps(weighting, problem, noises[:STEPS]))
    other.load_state_dict({k: v.clone() for k, v in weighting.state_dict().items()})
    for own, loaded in zip(
        steps(weighting, problem, noises[STEPS:]),
        steps(other, problem, noises[STEPS:]),
        strict=True,
    ):
        assert torch.equal(own, loaded)


@every_method
def test_a_broken_task_leaves_no_trace(method: str) -> None:
    problem = make_problem(own="head", batch_size=8)
    weighting = make_method(method, problem)
    noises = [make_noise(weighting, problem) for _ in range(STEPS)]
    list(steps(weighting, problem, noises))
    broken = Problem(problem.network, problem.inputs, problem.targets.clone(), problem.scales)
    broken.targets[1] = torch.nan
    seen = statistics(weighting, broken, noises[0])
    # The balancer puts the others' mean in place of a loss that is not finite.
    losses = seen.task_losses.nan_to_num(nan=float(seen.task_losses.nanmean()))
    weights, gradient = step(weighting, seen._replace(losses=losses))
    assert weights[[0, 2, 3]].isfinite().all()
    assert gradient.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in weighting.state_dict().values())
    (after,) = steps(weighting, problem, noises[:1])
    assert after.isfinite().all()


@every_method
def test_options_of_methods_have_documentation_and_defaults(method: str) -> None:
    weighting = METHODS[method]
    assert weighting.__doc__
    assert isinstance(weighting(2).config, weighting.config_class)


@every_method
def test_options_that_are_not_possible_are_refused(method: str) -> None:
    config_class = METHODS[method].config_class
    for option in fields(config_class):
        if option.type in ("int", "float"):
            for bad in (math.nan, math.inf, -1e9):
                with pytest.raises(ConfigError, match=f"{option.name} is {bad}; it must be "):
                    config_class(**{option.name: bad})
        elif option.type != "bool":
            with pytest.raises(ConfigError, match=f"{option.name} is 'x'; it must be one of "):
                config_class(**{option.name: "x"})


def test_options_of_the_same_name_mean_the_same() -> None:
    seen: dict[str, object] = {}
    for weighting in METHODS.values():
        for option in fields(weighting.config_class):
            meaning = option.type, option.metadata
            assert seen.setdefault(option.name, meaning) == meaning, option.name


def direction(method: str, rows: Tensor) -> Tensor:
    """Unit vector along the combined gradient of the rows, from a fresh instance."""
    weighting = METHODS[method](len(rows), None, rows.shape[1]).to(rows.dtype)
    seen = made_up(weighting, rows, torch.ones(len(rows), dtype=rows.dtype))
    _, gradient = step(weighting, seen._replace(noise=torch.zeros_like(seen.noise)))
    unit: Tensor = gradient / gradient.norm()
    return unit


SCALE_FREE = ["aligned_mtl", "cagrad", "equal", "fairgrad", "imgrad", "imtl_g", "mgda", "nash_mtl"]
SCALE_FREE += ["ntkmtl", "pcgrad", "sdmgrad", "unit_norm", "upgrad"]


@pytest.mark.parametrize("method", SCALE_FREE)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_common_scale_does_not_turn_the_step(method: str, factor: float) -> None:
    rows = hard_rows("", 4, torch.float64)
    assert_close(direction(method, factor * rows), direction(method, rows), rtol=1e-5, atol=1e-5)


IMPARTIAL = ["imtl_g", "nash_mtl", "ntkmtl", "unit_norm"]


@pytest.mark.parametrize("method", IMPARTIAL)
def test_one_task_s_scale_does_not_turn_the_step(method: str) -> None:
    rows = hard_rows("", 4, torch.float64)
    scaled = rows * torch.tensor([[1.0], [30.0], [1.0], [0.1]], dtype=torch.float64)
    assert_close(direction(method, scaled), direction(method, rows), rtol=1e-5, atol=1e-5)


NEVER_CONFLICTING = ["mgda", "nash_mtl", "upgrad"]


@pytest.mark.parametrize("method", NEVER_CONFLICTING)
def test_no_task_is_made_worse_to_first_order(method: str) -> None:
    for _ in range(20):
        # A common component large enough to conflict often, and not always hopelessly.
        rows = torch.randn(4, 6, dtype=torch.float64)
        assert (rows @ direction(method, rows) >= -1e-6).all()


def test_equal_weights_make_some_task_worse() -> None:
    rows = torch.tensor([[1.0, 0.0], [-3.0, 0.1]], dtype=torch.float64)
    assert (rows @ direction("equal", rows)).min() < 0
