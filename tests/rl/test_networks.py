"""Actor and critic: shapes, the density of the tanh-Gaussian, task conditioning."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution
from torch.testing import assert_close

from mtrl_ntk.balancing.layers import TaskLinear, split_parameters
from mtrl_ntk.rl.critics import SquaredErrorCritic
from mtrl_ntk.rl.features import RawObservations
from mtrl_ntk.rl.networks import (
    BLOCKS,
    MLP,
    NETWORK_KINDS,
    Actor,
    Architecture,
    tanh_gaussian_log_prob,
)
from mtrl_ntk.rl.sac import MultiTaskSAC, SacConfig
from tests.rl.agents import make_weighting

TASKS, ROWS, OBSERVATION, ACTION = 3, 5, 7, 2
KINDS = tuple(NETWORK_KINDS)

every_kind = pytest.mark.parametrize("kind", KINDS)


def make_actor(log_std_bounds: tuple[float, float] = (-5.0, 2.0), kind: str = "shared") -> Actor:
    """A small actor in float64."""
    architecture = Architecture(TASKS, kind, width=8, depth=2, embedding_dim=3)
    return Actor(
        RawObservations(OBSERVATION), ACTION, architecture, log_std_bounds=log_std_bounds
    ).double()


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


def test_residual_blocks_add_what_is_normalised_first() -> None:
    mlp = MLP(5, 4, Architecture(TASKS, width=8, depth=2, blocks="residual")).double()
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    inputs = torch.randn(TASKS, ROWS, 5, dtype=torch.float64)
    given = iter(mlp.parameters())

    def linear(rows: torch.Tensor) -> torch.Tensor:
        return rows @ next(given).T + next(given)

    def normalised(rows: torch.Tensor) -> torch.Tensor:
        centred = rows - rows.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred / (variance + 1e-5).sqrt() * next(given) + next(given)

    features = linear(inputs)
    for _ in range(2):
        features = features + linear(linear(normalised(features)).relu())
    assert_close(mlp(inputs), linear(normalised(features)))
    assert next(given, None) is None


@pytest.mark.parametrize("kind", ["task_embedding", "independent"])
def test_residual_blocks_share_what_the_kind_says(kind: str) -> None:
    mlp = MLP(5, 4, Architecture(TASKS, kind, width=8, depth=2, blocks="residual"))
    shared, own = split_parameters(mlp)
    # A first layer, two blocks of a normalisation and two layers, another normalisation, a head.
    expected = {"task_embedding": [18, 1], "independent": [0, 18]}
    assert [len(shared), len(own)] == expected[kind]


@every_kind
@pytest.mark.parametrize("blocks", BLOCKS)
def test_initial_weights_are_he_uniform(kind: str, blocks: str) -> None:
    architecture = Architecture(TASKS, kind, width=50, depth=2, embedding_dim=20, blocks=blocks)
    mlp = MLP(100, 4, architecture)
    for layer in (m for m in mlp.modules() if isinstance(m, nn.Linear | TaskLinear)):
        bound = (6 / layer.weight.shape[-1]) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.9 * bound
        assert not layer.bias.any()


def test_parameter_counts_of_the_paper_scale_networks() -> None:
    actor = Actor(RawObservations(39), 4, Architecture(10), log_std_bounds=(-20.0, 2.0))
    critic = SquaredErrorCritic(RawObservations(39), 4, Architecture(10))
    assert sum(p.numel() for p in actor.parameters()) == 344_008
    assert sum(p.numel() for p in critic.parameters()) == 685_602


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_last_layers_begin_as_small_as_in_the_protocol(kind: str) -> None:
    architecture = Architecture(3, kind, width=64, depth=2, head_init=1e-3)
    network = architecture.network(5, 40)
    assert isinstance(network, MLP)
    for parameter in network.layers[-1].parameters():
        assert 0.9e-3 < parameter.abs().max() <= 1e-3
        assert parameter.mean().abs() < 2e-4
    weights = [tensor for name, tensor in network.layers.named_parameters() if "weight" in name]
    assert all(weight.abs().max() > 0.1 for weight in weights[:-1])


def test_an_untrained_agent_of_the_protocol_has_equal_tasks() -> None:
    config = SacConfig()
    agent = MultiTaskSAC(
        3, 4, 2, config=config, make_weighting=partial(make_weighting, "equal"), seed=0
    )
    observations = torch.randn(3, 50, 4)
    mean, log_std = agent.actor(observations)
    assert mean.abs().max() < 0.05
    assert log_std.abs().max() < 0.05
    outputs = agent.critic(observations, torch.rand(3, 50, 2))
    assert agent.critic.values(outputs).abs().max() < 0.2
