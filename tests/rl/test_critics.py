"""Critics: their networks are two, and what they put out is theirs alone to read."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.testing import assert_close

from mtrl_ntk.balancing import Request, Tape, factored_jacobian, sequential_jacobian
from mtrl_ntk.balancing.ensemble import stacked
from mtrl_ntk.balancing.factors import parameters_of
from mtrl_ntk.balancing.layers import split_parameters
from mtrl_ntk.balancing.methods.ntkmtl import NTKMTL
from mtrl_ntk.rl import sac
from mtrl_ntk.rl.critics import (
    CRITICS,
    CategoricalCritic,
    CriticOptions,
    SquaredErrorCritic,
    TwinCritic,
)
from mtrl_ntk.rl.features import Features, RawObservations
from mtrl_ntk.rl.networks import NETWORK_KINDS, Architecture
from mtrl_ntk.rl.sac import MakeCritic, MultiTaskSAC, SacConfig
from mtrl_ntk.rl.types import Batch

TASKS, ROWS, OBSERVATION, ACTION = 3, 5, 7, 2

every_kind = pytest.mark.parametrize("kind", NETWORK_KINDS)


every_block = pytest.mark.parametrize(
    "hidden", [{}, {"layer_norm": True}, {"blocks": "residual"}], ids=["plain", "norm", "residual"]
)


def make_critic(kind: str = "shared", **hidden: Any) -> TwinCritic:  # noqa: ANN401
    """A small critic."""
    architecture = Architecture(TASKS, kind, width=8, depth=2, embedding_dim=3, **hidden)
    return SquaredErrorCritic(RawObservations(OBSERVATION), ACTION, architecture)


@every_kind
@every_block
def test_a_taped_forward_pass_is_the_plain_one(kind: str, hidden: dict[str, Any]) -> None:
    critic = make_critic(kind, **hidden)
    observations, actions = torch.randn(TASKS, ROWS, OBSERVATION), torch.randn(TASKS, ROWS, ACTION)
    tape = Tape()
    outputs = critic(observations, actions, tape)
    assert outputs.shape == (2, TASKS, ROWS, 1)
    assert_close(outputs, critic(observations, actions))
    shared, own = split_parameters(critic)
    assert [id(p) for p in parameters_of(tape.shared)] == [id(p) for p in shared]
    assert [id(p) for p in parameters_of(tape.task_specific)] == [id(p) for p in own]
    assert len(shared) + len(own) == len(list(critic.parameters()))


@every_kind
@every_block
@pytest.mark.parametrize("num_minibatches", [1, 5])
def test_joined_critics_are_those_two(
    kind: str, num_minibatches: int, hidden: dict[str, Any]
) -> None:
    apart = make_critic(kind, **hidden).double()
    joined = deepcopy(apart)
    joined.join()
    assert joined._joint is not None
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
            losses = critic.values(critic(observations, actions, tape)).square().sum(0)
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


def test_the_value_is_the_smaller_and_the_loss_is_of_both() -> None:
    critic = make_critic()
    outputs = torch.tensor([[[[1.0], [2.0]]], [[[4.0], [1.5]]]])
    assert_close(critic.value(outputs), torch.tensor([[1.0, 1.5]]))
    assert_close(critic.losses(outputs, torch.tensor([[3.0, 0.0]])), torch.tensor([[5.0, 6.25]]))
    assert_close(critic.balanced_outputs(outputs), torch.tensor([[[1.0, 4.0], [2.0, 1.5]]]))


class SumOfOutputs(TwinCritic):
    """Puts out two numbers whose sum is the value."""

    def __init__(
        self,
        features: Features,
        action_dim: int,
        architecture: Architecture,
        options: CriticOptions,
    ) -> None:
        super().__init__(features, action_dim, architecture, options, num_outputs=2)

    def values(self, outputs: Tensor) -> Tensor:
        return outputs.sum(-1)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (self.values(outputs) - targets).abs().sum(0)


def make_agent(
    kernel: Literal["loss", "output"] = "loss",
    make_critic: MakeCritic | None = None,
    **settings: Any,  # noqa: ANN401
) -> MultiTaskSAC:
    weighting = NTKMTL.config_class(kernel=kernel)
    return MultiTaskSAC(
        TASKS,
        OBSERVATION,
        ACTION,
        config=SacConfig(batch_size=ROWS, width=16, depth=2, learning_rate=1e-2, **settings),
        make_weighting=partial(sac.make_weighting, NTKMTL, weighting, TASKS),
        seed=0,
        dtype=torch.float64,
        critic=make_critic,
    )


def make_batch() -> Batch:
    observations = torch.randn(2, TASKS, ROWS, OBSERVATION, dtype=torch.float64)
    actions = torch.rand(TASKS, ROWS, ACTION, dtype=torch.float64)
    rewards = torch.randn(TASKS, ROWS, dtype=torch.float64)
    ended = torch.ones_like(rewards)
    return Batch(observations[0], actions, rewards, observations[1], ended)


def value_errors(agent: MultiTaskSAC, batch: Batch) -> float:
    outputs = agent.critic(batch.observations, batch.actions)
    # All episodes end at once: values are rewards.
    return (agent.critic.values(outputs) - batch.rewards).abs().mean().item()


def check_learning(make: Callable[[], MultiTaskSAC], num_outputs: int) -> None:
    apart, joined = make(), make()
    joined.join_critics()
    batch = make_batch()
    before = value_errors(apart, batch)
    for _ in range(40):
        assert_close(joined.update(batch), apart.update(batch))
    assert value_errors(apart, batch) < before / 3
    outputs = apart.critic(batch.observations, batch.actions)
    assert outputs.shape == (2, TASKS, ROWS, num_outputs)
    assert apart.critic.balanced_outputs(outputs).shape == (TASKS, ROWS, 2)


@pytest.mark.parametrize("kernel", ["loss", "output"])
def test_another_kind_of_critic_is_one_class(kernel: Literal["loss", "output"]) -> None:
    check_learning(partial(make_agent, kernel, SumOfOutputs), 2)


@pytest.mark.parametrize("kernel", ["loss", "output"])
def test_histograms_are_learnt(kernel: Literal["loss", "output"]) -> None:
    settings: dict[str, Any] = {"critic": "categorical", "critic_bins": 21, "critic_range": 5}
    check_learning(partial(make_agent, kernel, **settings), 21)


@pytest.mark.parametrize("kind", CRITICS)
def test_the_options_choose_the_critic(kind: str) -> None:
    batch = make_batch()
    for twin, together in (("min", torch.minimum), ("mean", lambda *both: sum(both) / 2)):
        critic = make_agent(critic=kind, twin=twin, critic_head_init=1).critic
        assert type(critic) is CRITICS[kind]
        outputs = critic(batch.observations, batch.actions)
        assert_close(critic.value(outputs), together(*critic.values(outputs)))


def make_categorical(bins: int, largest: float) -> CategoricalCritic:
    options = CriticOptions(bins=bins, largest_value=largest)
    architecture = Architecture(TASKS, width=4, depth=1)
    features = RawObservations(OBSERVATION)
    return CategoricalCritic(features, ACTION, architecture, options).double()


def test_a_histogram_s_value_is_the_mean_of_its_bins() -> None:
    critic = make_categorical(4, 2.0)  # about -1.5, -0.5, 0.5 and 1.5
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    outputs = shares.log().view(2, 1, 1, 4) + 7  # one factor for all is none
    expected = torch.tensor([[[0.5]], [[0.0]]], dtype=torch.float64)
    assert_close(critic.values(outputs), expected)


@pytest.mark.parametrize("target", [0.3, -1.9, 2.0, 31.0])
def test_a_histogram_is_learnt_by_its_cross_entropy(target: float) -> None:
    critic, inside = make_categorical(8, 2.0), min(target, 2.0)
    gaussian = Normal(inside, 0.75 * 0.5)
    cdf = gaussian.cdf(torch.linspace(-2, 2, 9, dtype=torch.float64))
    shares = (cdf[1:] - cdf[:-1]) / (cdf[-1] - cdf[0])
    outputs = torch.randn(2, 1, 1, 8, dtype=torch.float64)
    expected = sum(-(shares * each.flatten().log_softmax(0)).sum() for each in outputs)
    loss = critic.losses(outputs, torch.tensor([[target]], dtype=torch.float64))
    assert_close(loss, torch.as_tensor(expected).view(1, 1))


@pytest.mark.parametrize("value", [-9.5, -3.21, 0.0, 0.04, 8.0])
def test_the_histogram_of_a_value_is_worth_that_value(value: float) -> None:
    critic = make_categorical(101, 12.0)
    outputs = torch.zeros(2, 1, 1, 101, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[value]], dtype=torch.float64)
    # The gradient of a cross-entropy of even shares is even shares less those of the target.
    (gradient,) = torch.autograd.grad(critic.losses(outputs, targets).sum(), outputs)
    shares = 1 / 101 - gradient
    assert_close(critic.values(shares.log()), targets.expand(2, 1, 1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("number", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_is_no_end_of_a_histogram(number: float) -> None:
    loss = make_categorical(8, 2.0).losses(torch.zeros(2, 1, 1, 8), torch.tensor([[number]]))
    assert loss.isnan().all()
