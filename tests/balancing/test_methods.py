"""Properties of every balancing method, and those of each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mtrl_ntk.balancing import Tape, Weighting, factored_jacobian
from mtrl_ntk.balancing.methods import METHODS, NTKMTL, UnitNorm
from mtrl_ntk.balancing.methods.ntkmtl import NTKMTLConfig
from mtrl_ntk.balancing.methods.unit_norm import UnitNormConfig
from mtrl_ntk.balancing.weighting import Statistics
from tests.balancing.problems import Problem, make_problem

every_method = pytest.mark.parametrize("method", METHODS)


def weigh(method: str, problem: Problem) -> Tensor:
    """Weights that a fresh instance gives to the problem's tasks."""
    tape = Tape()
    losses = problem.sample_losses(tape)
    weighting = METHODS[method](losses.shape[0])
    jacobian = factored_jacobian(tape, losses, problem.rows(weighting.num_minibatches))
    return weighting.weigh(Statistics(jacobian, losses.mean(1).detach()))


@every_method
def test_permuting_tasks_permutes_weights(method: str, problem: Problem) -> None:
    weights = weigh(method, problem)
    order = torch.tensor([2, 0, 3, 1])
    permuted = Problem(
        problem.network, problem.inputs[order], problem.targets[order], problem.scales[order]
    )
    assert_close(weigh(method, permuted), weights[order])


@every_method
@pytest.mark.parametrize("num_tasks", [1, 2, 10, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_finite_and_positive(method: str, num_tasks: int, dtype: torch.dtype) -> None:
    weights = weigh(method, make_problem(num_tasks=num_tasks, dtype=dtype))
    assert weights.shape == (num_tasks,)
    assert weights.dtype == dtype
    assert weights.isfinite().all()
    assert (weights > 0).all()


@every_method
@pytest.mark.parametrize("zeros", [[0], [1, 3], [0, 1, 2, 3]])
def test_tasks_without_gradient_get_finite_weights(
    method: str, problem: Problem, zeros: list[int]
) -> None:
    problem.scales[zeros] = 0.0
    assert weigh(method, problem).isfinite().all()


@every_method
def test_vanishing_gradients_get_finite_weights(method: str) -> None:
    problem = make_problem(dtype=torch.float32)
    problem.scales = torch.tensor([0.0, 1e-18, 1e-18, 1e-18])
    assert weigh(method, problem).isfinite().all()


@pytest.mark.parametrize(
    ("config_class", "values", "message"),
    [
        (NTKMTLConfig, {"exponent": -0.1}, "exponent is -0.1"),
        (NTKMTLConfig, {"eigenvalue_floor": 0.0}, "eigenvalue_floor is 0.0"),
        (UnitNormConfig, {"norm_floor": 1.5}, "norm_floor is 1.5"),
    ],
)
def test_impossible_hyperparameters_are_refused(
    config_class: type[Any], values: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        config_class(**values)


@every_method
def test_state_survives_a_state_dict(method: str) -> None:
    weighting: Weighting = METHODS[method](4)
    other: Weighting = METHODS[method](4)
    other.load_state_dict(weighting.state_dict())
    for name, tensor in weighting.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_ntkmtl_follows_equation_15() -> None:
    eigenvalues = torch.tensor([1.0, 4.0, 16.0])
    weights = NTKMTL(3)(eigenvalues[:, None, None])
    assert_close(weights, torch.sqrt(torch.tensor([7.0, 7 / 4, 7 / 16])))


def test_ntkmtl_takes_the_largest_eigenvalue_of_each_kernel() -> None:
    kernels = torch.diag_embed(torch.tensor([[1.0, 4.0], [16.0, 9.0]]))
    assert_close(NTKMTL(2)(kernels), torch.sqrt(torch.tensor([10 / 4, 10 / 16])))


def test_ntkmtl_equalises_gradient_norms(problem: Problem) -> None:
    norms = problem.factored().squared_norms().sqrt()
    weighted = weigh("ntkmtl", problem) * norms
    assert norms.max() > 100 * norms.min()
    assert_close(weighted, weighted.mean().expand(4))


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_ntkmtl_does_not_see_a_common_scale(problem: Problem, factor: float) -> None:
    weights = weigh("ntkmtl", problem)
    problem.scales *= factor
    assert_close(weigh("ntkmtl", problem), weights)


def test_ntkmtl_exponent_zero_is_equal_weighting() -> None:
    weights = NTKMTL(3, NTKMTLConfig(exponent=0.0))(torch.rand(3, 1, 1))
    assert_close(weights, torch.ones(3))


def test_ntkmtl_exponent_one_makes_eigenvalues_equal() -> None:
    eigenvalues = torch.rand(5)
    weights = NTKMTL(5, NTKMTLConfig(exponent=1.0))(eigenvalues[:, None, None])
    assert_close(weights * eigenvalues, eigenvalues.mean().expand(5))


def test_ntkmtl_floor_is_relative_to_the_mean() -> None:
    weighting = NTKMTL(2, NTKMTLConfig(eigenvalue_floor=0.01))
    assert_close(weighting(torch.tensor([0.0, 2.0])[:, None, None])[0], torch.tensor(10.0))
    assert_close(weighting(torch.tensor([0.0, 2e9])[:, None, None])[0], torch.tensor(10.0))


def test_unit_norm_makes_unit_gradients(problem: Problem) -> None:
    norms = problem.factored().squared_norms().sqrt()
    assert_close(weigh("unit_norm", problem) * norms, torch.ones(4, dtype=torch.float64))


def test_unit_norm_floor_is_relative_to_the_root_mean_square() -> None:
    weights = UnitNorm(2, UnitNormConfig(norm_floor=0.1))(torch.tensor([0.0, 8.0]))
    assert_close(weights, torch.tensor([1 / 0.2, 1 / 8**0.5]))


def test_unit_norm_and_ntkmtl_share_their_direction_and_differ_in_length(problem: Problem) -> None:
    ntkmtl, unit_norm = weigh("ntkmtl", problem), weigh("unit_norm", problem)
    ratios = ntkmtl / unit_norm
    assert_close(ratios, ratios[:1].expand(4))
    root_mean_square = problem.factored().squared_norms().mean().sqrt()
    assert_close(ratios[0], root_mean_square)
