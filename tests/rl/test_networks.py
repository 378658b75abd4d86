"""Actor and critic: shapes, the density of the tanh-Gaussian, task conditioning."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution
from torch.testing import assert_close

from mtrl_ntk.balancing import Request, Tape, factored_jacobian, sequential_jacobian
from mtrl_ntk.balancing.ensemble import stacked
from mtrl_ntk.balancing.factors import parameters_of
from mtrl_ntk.balancing.layers import TaskLinear, split_parameters
from mtrl_ntk.rl.networks import (
    MLP,
    NETWORK_KINDS,
    Actor,
    Architecture,
    TwinCritic,
    tanh_gaussian_log_prob,
)

TASKS, ROWS, OBSERVATION, ACTION = 3, 5, 7, 2
KINDS = tuple(NETWORK_KINDS)

every_kind = pytest.mark.parametrize("kind", KINDS)


def make_actor(log_std_bounds: tuple[float, float] = (-5.0, 2.0), kind: str = "shared") -> Actor:
    """A small actor in float64."""
    architecture = Architecture(TASKS, kind, width=8, depth=2, embedding_dim=3)
    return Actor(OBSERVATION, ACTION, architecture, log_std_bounds=log_std_bounds).double()


def make_critic(kind: str = "shared", *, layer_norm: bool = False) -> TwinCritic:
    """A small critic."""
    architecture = Architecture(
        TASKS, kind, width=8, depth=2, embedding_dim=3, layer_norm=layer_norm
    )
    return TwinCritic(OBSERVATION, ACTION, architecture)


def test_log_prob_agrees_with_torch_distributions() -> None:
    mean, log_std, noise = 0.3 * torch.randn(3, TASKS, ROWS, ACTION, dtype=torch.float64)
    pre_tanh = mean + log_std.exp() * noise
    distribution = TransformedDistribution(
        Independent(Normal(mean, log_std.exp()), 1), [TanhTransform()]
    )
    assert_close(
        tanh_gaussian_log_prob(pre_tanh, log_std, noise), distribution.log_prob(pre_tanh.tanh())
    )


def test_log_prob_is_finite_where_the_tanh_saturates() -> None:
    pre_tanh = torch.tensor([[[-50.0, 50.0]]])
    zeros = torch.zeros(1, 1, 2)
    log_prob = tanh_gaussian_log_prob(pre_tanh, zeros, zeros)
    # log(1 - tanh(u)^2) approaches 2 log 2 - 2 |u|.
    assert_close(
        log_prob,
        -torch.log(torch.tensor([[2 * torch.pi]])) - 4 * torch.log(torch.tensor(2.0)) + 200,
    )


def test_sample_without_noise_is_the_mode() -> None:
    actor, observations = make_actor(), torch.randn(TASKS, ROWS, OBSERVATION, dtype=torch.float64)
    sample = actor.sample(observations, torch.zeros(TASKS, ROWS, ACTION, dtype=torch.float64))
    assert_close(sample.actions, actor.mode(observations))
    assert sample.log_probs.shape == (TASKS, ROWS)


def test_log_std_stays_in_its_bounds() -> None:
    actor = make_actor((-1.0, 0.5))
    observations = 1e3 * torch.randn(TASKS, ROWS, OBSERVATION, dtype=torch.float64)
    log_std = actor(observations)[1]
    assert log_std.min() == -1.0
    assert log_std.max() == 0.5


@every_kind
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_taped_forward_pass_is_the_plain_one(kind: str, *, layer_norm: bool) -> None:
    critic = make_critic(kind, layer_norm=layer_norm)
    observations, actions = torch.randn(TASKS, ROWS, OBSERVATION), torch.randn(TASKS, ROWS, ACTION)
    tape = Tape()
    values = critic(observations, actions, tape)
    assert values.shape == (2, TASKS, ROWS)
    assert_close(values, critic(observations, actions))
    shared, own = split_parameters(critic)
    assert [id(p) for p in parameters_of(tape.shared)] == [id(p) for p in shared]
    assert [id(p) for p in parameters_of(tape.task_specific)] == [id(p) for p in own]
    assert len(shared) + len(own) == len(list(critic.parameters()))


@every_kind
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("num_minibatches", [1, 5])
def test_joined_critics_are_those_two(kind: str, num_minibatches: int, *, layer_norm: bool) -> None:
    apart = make_critic(kind, layer_norm=layer_norm).double()
    joined = deepcopy(apart)
    joined.join()
    assert_close(joined.state_dict(), apart.state_dict())
    observations = torch.randn(TASKS, ROWS, OBSERVATION, dtype=torch.float64)
    actions = torch.randn(TASKS, ROWS, ACTION, dtype=torch.float64, requires_grad=True)
    assert_close(joined(observations, actions), apart(observations, actions))
    assert_close(
        torch.autograd.grad(joined(observations, actions).sum(), actions),
        torch.autograd.grad(apart(observations, actions).sum(), actions),
    )
    jacobians = []
    for critic in (apart, joined):
        for differentiate in (factored_jacobian, sequential_jacobian):
            tape = Tape()
            losses = critic(observations, actions, tape).square().sum(0)
            assert [id(p) for p in parameters_of(tape.factors)] == [
                id(p) for part in split_parameters(critic) for p in part
            ]
            jacobians.append(differentiate(tape, losses, Request(num_minibatches)))
    for jacobian in jacobians[1:]:
        assert_close(jacobian.rows(), jacobians[0].rows())
        assert_close(jacobian.own_gradients(), jacobians[0].own_gradients())


def test_joined_critics_stay_joined_while_they_learn() -> None:
    critic = make_critic()
    critic.join()
    places = [parameter.data_ptr() for parameter in critic.parameters()]
    critic.load_state_dict(make_critic().state_dict())
    with torch.no_grad():
        torch._foreach_lerp_(list(critic.parameters()), list(make_critic().parameters()), 0.5)
    assert [parameter.data_ptr() for parameter in critic.parameters()] == places
    first, second = (list(mlp.parameters()) for mlp in critic.mlps)
    for group in zip(first, second, strict=True):
        assert stacked(group).data_ptr() == group[0].data_ptr()


def test_the_two_critics_are_independent() -> None:
    critic = make_critic()
    values = critic(torch.randn(TASKS, ROWS, OBSERVATION), torch.randn(TASKS, ROWS, ACTION))
    assert not torch.allclose(values[0], values[1])
    gradients = torch.autograd.grad(values[0].sum(), list(critic.mlps[1].parameters()))
    assert not any(gradient.any() for gradient in gradients)


@every_kind
def test_tasks_with_equal_observations_are_told_apart(kind: str) -> None:
    actor = make_actor(kind=kind)
    observations = torch.randn(1, ROWS, OBSERVATION, dtype=torch.float64).expand(TASKS, -1, -1)
    modes = actor.mode(observations)
    assert not torch.allclose(modes[0], modes[1])
    assert not torch.allclose(modes[1], modes[2])


@pytest.mark.parametrize(
    ("kind", "shared", "own"),
    [
        ("shared", 6, 0),
        ("task_embedding", 6, 1),
        ("multi_head", 4, 2),
        ("independent", 0, 6),
    ],
)
def test_kinds_share_what_they_say(kind: str, shared: int, own: int) -> None:
    parameters = split_parameters(make_actor(kind=kind))
    assert [len(part) for part in parameters] == [shared, own]
    assert all(len(parameter) == TASKS for parameter in parameters[1])


@pytest.mark.parametrize("kind", ["multi_head", "independent", "task_embedding"])
def test_a_task_s_own_parameters_see_that_task_only(kind: str) -> None:
    actor = make_actor(kind=kind)
    observations = torch.randn(TASKS, ROWS, OBSERVATION, dtype=torch.float64)
    own = split_parameters(actor)[1]
    gradients = torch.autograd.grad(actor(observations)[0][1].sum(), own)
    for gradient in gradients:
        assert gradient[1].any()
        assert not gradient[0].any()
        assert not gradient[2].any()


@every_kind
def test_initial_weights_are_he_uniform(kind: str) -> None:
    mlp = MLP(100, 4, Architecture(TASKS, kind, width=50, depth=2, embedding_dim=20))
    for layer in (m for m in mlp.modules() if isinstance(m, nn.Linear | TaskLinear)):
        bound = (6 / layer.weight.shape[-1]) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.9 * bound
        assert not layer.bias.any()


def test_parameter_counts_of_the_paper_scale_networks() -> None:
    actor = Actor(39, 4, Architecture(10), log_std_bounds=(-20.0, 2.0))
    critic = TwinCritic(39, 4, Architecture(10))
    assert sum(p.numel() for p in actor.parameters()) == 344_008
    assert sum(p.numel() for p in critic.parameters()) == 685_602
