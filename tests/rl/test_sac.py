"""The agent: against an ordinary SAC, against sequential gradients, and its promises."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mtrl_ntk.balancing import apply_layer, sequential_jacobian
from mtrl_ntk.balancing.ensemble import Ensemble
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.rl.networks import tanh_gaussian_log_prob
from mtrl_ntk.rl.sac import MultiTaskSAC, Noise, Part, SacConfig
from mtrl_ntk.rl.types import Batch
from tests.device import (
    GeneratorForAnyDevice,
    HostSynchronisationError,
    OperationCount,
    forbid_host_synchronisation,
    forbid_stray_tensors,
)
from tests.rl.agents import COMBINATIONS, COVERING, FEW, OPTIONS, STATISTICS, make_weighting

TASKS, ROWS, OBSERVATION, ACTION = 3, 8, 6, 2

every_method = pytest.mark.parametrize(
    ("method", "network"),
    # All of them would take too long for the fast tests.
    [
        pytest.param(*pair, marks=[] if index % 5 == 0 else pytest.mark.slow)
        for index, pair in enumerate(COVERING)
    ],
)


def make_agent(
    method: str = "equal",
    network: str = "shared",
    *,
    dtype: torch.dtype = torch.float64,
    **kwargs: Any,  # noqa: ANN401
) -> MultiTaskSAC:
    """A small agent; keyword arguments are fields of the configuration."""
    passed_on = {key: kwargs.pop(key) for key in ("differentiate", "device") if key in kwargs}
    return MultiTaskSAC(
        TASKS,
        OBSERVATION,
        ACTION,
        config=SacConfig(
            **{"batch_size": ROWS, "width": 16, "depth": 2, "embedding_dim": 3, **kwargs},
            network=network,
        ),
        make_weighting=partial(make_weighting, method),
        seed=0,
        num_updates=8,
        dtype=dtype,
        **passed_on,
    )


def make_batch(dtype: torch.dtype = torch.float64) -> Batch:
    """A random batch with some terminations."""
    return Batch(
        torch.randn(TASKS, ROWS, OBSERVATION, dtype=dtype),
        torch.rand(TASKS, ROWS, ACTION, dtype=dtype) * 2 - 1,
        torch.randn(TASKS, ROWS, dtype=dtype),
        torch.randn(TASKS, ROWS, OBSERVATION, dtype=dtype),
        (torch.rand(TASKS, ROWS) < 0.2).to(dtype),
    )


def forward(mlp: nn.Module, inputs: Tensor) -> Tensor:
    """An MLP with ReLU activations, written out from its parameters."""
    *hidden, head = [m for m in mlp.modules() if isinstance(m, nn.Linear)]
    for layer in hidden:
        inputs = torch.relu(inputs @ layer.weight.T + layer.bias)
    return inputs @ head.weight.T + head.bias


class OrdinarySAC:
    """Textbook SAC on the flattened batch: the mean loss, ``backward()`` and Adam."""

    def __init__(self, agent: MultiTaskSAC) -> None:
        self.config = agent.config
        self.actor, self.critic = deepcopy(agent.actor), deepcopy(agent.critic)
        self.target = deepcopy(agent.target_critic)
        self.log_alpha = agent.log_alpha.detach().clone().requires_grad_()
        self.actor_adam = self.adam(self.actor.parameters())
        self.critic_adam = self.adam(self.critic.parameters())
        self.temperature_adam = self.adam([self.log_alpha])
        self.ids = torch.eye(TASKS, dtype=torch.float64).repeat_interleave(ROWS, 0)

    def adam(self, parameters: Iterable[Tensor]) -> torch.optim.Adam:
        return torch.optim.Adam(
            parameters, lr=self.config.learning_rate, eps=self.config.adam_epsilon
        )

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = forward(self.actor, torch.cat([observations, self.ids], 1)).chunk(2, dim=1)
        log_std = log_std.clamp(self.config.log_std_min, self.config.log_std_max)
        pre_tanh = mean + log_std.exp() * noise
        return pre_tanh.tanh(), tanh_gaussian_log_prob(pre_tanh, log_std, noise)

    def values(self, critic: nn.Module, observations: Tensor, actions: Tensor) -> list[Tensor]:
        inputs = torch.cat([observations, actions, self.ids], 1)
        return [forward(mlp, inputs).squeeze(1) for mlp in critic.get_submodule("mlps").children()]

    def descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        parameters = optimizer.param_groups[0]["params"]
        if optimizer is not self.temperature_adam and self.config.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        optimizer.step()

    def update(self, batch: Batch, next_noise: Tensor, noise: Tensor) -> None:
        observations, actions, rewards, next_observations, terminated = (
            values.flatten(0, 1) for values in batch
        )
        temperature = self.log_alpha.detach().exp().repeat_interleave(ROWS)
        with torch.no_grad():
            next_actions, next_log_probs = self.sample(next_observations, next_noise.flatten(0, 1))
            next_values = torch.minimum(*self.values(self.target, next_observations, next_actions))
            targets = rewards + self.config.gamma * (1 - terminated) * (
                next_values - temperature * next_log_probs
            )
        first, second = self.values(self.critic, observations, actions)
        critic_loss = (first - targets).square() + (second - targets).square()
        self.descend(self.critic_adam, critic_loss.mean())
        new_actions, log_probs = self.sample(observations, noise.flatten(0, 1))
        value = torch.minimum(*self.values(self.critic, observations, new_actions))
        self.descend(self.actor_adam, (temperature * log_probs - value).mean())
        log_alpha = self.log_alpha.repeat_interleave(ROWS)
        gap = log_probs.detach() - ACTION
        self.descend(self.temperature_adam, -(log_alpha * gap).mean())
        with torch.no_grad():
            for target, source in zip(
                self.target.parameters(), self.critic.parameters(), strict=True
            ):
                target.mul_(1 - self.config.tau).add_(self.config.tau * source)


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.5])
def test_equal_weighting_is_ordinary_sac(max_grad_norm: float) -> None:
    agent = make_agent(
        "equal", max_grad_norm=max_grad_norm, learning_rate=1e-3, temperature_learning_rate=1e-3
    )
    ordinary = OrdinarySAC(agent)
    for _ in range(20):
        batch, noise = make_batch(), agent.draw_noise()
        agent.update(batch, noise)
        ordinary.update(batch, noise.next_actions, noise.actions)
    for own, other in (
        (agent.actor, ordinary.actor),
        (agent.critic, ordinary.critic),
        (agent.target_critic, ordinary.target),
    ):
        for parameter, reference in zip(own.parameters(), other.parameters(), strict=True):
            assert_close(parameter, reference, rtol=1e-12, atol=1e-12)
    assert_close(agent.log_alpha, ordinary.log_alpha, rtol=1e-12, atol=1e-12)


# The sequential reference knows no kernels of representations.
sequential_combinations = [pair for pair in COMBINATIONS if pair[0] != "ntkmtl_sr"]
every_statistic = pytest.mark.parametrize(
    ("method", "network"), [pair for pair in sequential_combinations if pair[0] in STATISTICS]
)


@pytest.mark.parametrize(
    ("method", "network"),
    [
        pytest.param(*pair, marks=[] if pair in COVERING else pytest.mark.slow)
        for pair in sequential_combinations
    ],
)
def test_one_backward_pass_gives_the_parameters_of_many(method: str, network: str) -> None:
    check_gradients(method, network)


@every_statistic
def test_one_backward_pass_is_enough_with_normalised_layers(method: str, network: str) -> None:
    check_gradients(method, network, critic_layer_norm=True)


@pytest.mark.slow
@every_statistic
@pytest.mark.parametrize("option", OPTIONS)
def test_one_backward_pass_is_enough_with_every_option(
    method: str, network: str, option: str
) -> None:
    check_gradients(method, network, **OPTIONS[option])


def check_gradients(method: str, network: str, **settings: Any) -> None:  # noqa: ANN401
    factored = make_agent(method, network, **settings)
    reference = make_agent(method, network, differentiate=sequential_jacobian, **settings)
    for _ in range(5):
        batch, noise = make_batch(), factored.draw_noise()
        factored.update(batch, noise)
        reference.update(batch, noise)
    for name, tensor in factored.state_dict().items():
        assert_close(tensor, reference.state_dict()[name], rtol=1e-9, atol=1e-9)


@every_method
def test_same_seed_same_agent(method: str, network: str) -> None:
    first, second = make_agent(method, network), make_agent(method, network)
    for _ in range(3):
        batch = make_batch()
        first.update(batch)
        second.update(batch)
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_making_an_agent_leaves_the_global_stream_alone() -> None:
    before = torch.random.get_rng_state()
    make_agent()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("method", "network", "field"),
    [
        *((*pair, index % 5) for index, pair in enumerate(COMBINATIONS)),
        *((*pair, field) for pair in FEW for field in range(5)),
    ],
)
def test_a_broken_task_leaves_the_others_learning(method: str, network: str, field: int) -> None:
    agent, batch = make_agent(method, network), make_batch()
    batch[field][1, 0] = torch.nan
    before = deepcopy(agent.state_dict())
    metrics = agent.update(batch)
    after = agent.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values())
    first_layer = "critic.mlps.0.layers.0.weight"
    assert not torch.equal(before[first_layer], after[first_layer])
    assert metrics["skipped/critic"].tolist() == [0, 1, 0]
    if field == 0:
        assert metrics["skipped/actor"].tolist() == [0, 1, 0]


def learned(agent: MultiTaskSAC) -> dict[str, Tensor]:
    """A copy of all that updates change, but for the temperatures."""
    tensors = {**agent.state_dict(), **agent.optimizer_state()}
    return {name: tensor.clone() for name, tensor in tensors.items() if "temperature" not in name}


def test_an_update_that_no_task_takes_part_in_moves_nothing() -> None:
    agent, batch = make_agent("ntkmtl"), make_batch()
    for _ in range(3):
        agent.update(batch)
    before = learned(agent)
    targets = {name for name in before if name.startswith("target_critic")}
    metrics = agent.update(batch._replace(observations=batch.observations * torch.nan))
    after = learned(agent)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    # The target goes on following the critic.
    assert moved == targets
    assert metrics["skipped/critic"].all()
    assert metrics["skipped/actor"].all()


def test_a_critic_that_is_broken_leaves_the_actor_alone() -> None:
    agent, batch = make_agent("ntkmtl"), make_batch()
    agent.update(batch)
    next(agent.critic.parameters()).data[0, 0] = torch.nan
    before = learned(agent)
    agent.update(batch)
    after = learned(agent)
    assert all(torch.equal(before[name], after[name]) for name in before if "actor" in name)
    assert all(tensor.isfinite().all() for tensor in agent.optimizer_state().values())


def test_a_broken_temperature_breaks_its_task_only() -> None:
    agent, batch = make_agent("ntkmtl"), make_batch()
    agent.update(batch)
    agent.log_alpha.data[1] = torch.nan
    metrics = agent.update(batch)
    tensors = {**agent.state_dict(), **agent.optimizer_state()}
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    assert broken == ["log_temperature"]
    assert agent.temperature.isfinite().tolist() == [True, False, True]
    assert metrics["skipped/critic"].tolist() == metrics["skipped/actor"].tolist() == [0, 1, 0]


@pytest.mark.parametrize("num_minibatches", [1, 4])
def test_the_jacobian_is_that_of_the_update(num_minibatches: int) -> None:
    batch = make_batch()
    agent = make_agent("equal", max_grad_norm=0.0)
    noise = agent.draw_noise()
    for part, network in zip(get_args(Part), (agent.critic, agent.actor), strict=True):
        jacobian = agent.jacobian(part, batch, noise, num_minibatches)
        assert jacobian.rows().shape[:2] == (TASKS, num_minibatches)
        gradient = jacobian.combine(torch.ones(TASKS, dtype=torch.float64))
        (agent.update_critic if part == "critic" else agent.update_actor)(batch, noise)
        updated = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        assert_close(torch.cat(updated), gradient)


@every_method
def test_a_jacobian_leaves_the_agent_as_it_is(method: str, network: str) -> None:
    inspected, plain = make_agent(method, network), make_agent(method, network)
    for _ in range(3):
        batch = make_batch()
        noise = inspected.draw_noise(torch.Generator().manual_seed(1))
        for agent in (inspected, plain):
            agent.update(batch)
        for part in get_args(Part):
            inspected.jacobian(part, batch, noise, 2)
    for state in (MultiTaskSAC.state_dict, MultiTaskSAC.optimizer_state):
        assert all(map(torch.equal, state(inspected).values(), state(plain).values()))
    assert torch.equal(inspected.generator.get_state(), plain.generator.get_state())


def test_a_shared_temperature_is_one_number() -> None:
    agent = make_agent(shared_temperature=True, initial_temperature=0.2)
    agent.update(make_batch())
    assert agent.log_alpha.shape == (1,)
    assert agent.temperature.shape == (TASKS,)
    assert agent.temperature.unique().numel() == 1


def test_target_entropy_defaults_to_minus_the_action_dimension() -> None:
    assert make_agent().target_entropy == -ACTION
    assert make_agent(target_entropy=-0.5).target_entropy == -0.5


def test_the_target_entropy_goes_to_its_end_with_the_updates() -> None:
    agent = make_agent(target_entropy=-2.0, target_entropy_end=0.0)
    # An entropy of -1 is too high for the first four of eight updates, and too low from the sixth.
    log_probs = torch.full((TASKS, ROWS), 1.0, dtype=torch.float64)
    directions = []
    for _ in range(10):
        agent.update_temperature(log_probs)
        assert agent.log_alpha.grad is not None
        directions.append(-TASKS * agent.log_alpha.grad[0].item())
    expected = [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1]
    assert directions == pytest.approx(expected)


def test_reward_scale_scales_the_targets() -> None:
    scaled, plain = make_agent(reward_scale=0.1), make_agent()
    batch, noise = make_batch(), plain.draw_noise()
    scaled.update(batch._replace(rewards=10 * batch.rewards), noise)
    plain.update(batch, noise)
    for name, tensor in plain.state_dict().items():
        assert_close(scaled.state_dict()[name], tensor)


def test_deterministic_actions_are_the_mode_and_samples_vary() -> None:
    agent = make_agent()
    observations = torch.randn(TASKS, 4, OBSERVATION, dtype=torch.float64)
    mode = agent.act(observations, deterministic=True)
    assert torch.equal(mode, agent.actor.mode(observations))
    assert torch.equal(mode, agent.act(observations, deterministic=True))
    assert not torch.equal(agent.act(observations), agent.act(observations))
    assert mode.abs().max() <= 1


def test_state_goes_round_and_foreign_state_is_refused() -> None:
    agent, other = make_agent("ntkmtl"), make_agent("ntkmtl")
    agent.update(make_batch())
    state = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    other.load_state_dict(state)
    assert all(map(torch.equal, other.state_dict().values(), state.values()))
    with pytest.raises(ValueError, match="log_temperature"):
        other.load_state_dict({k: v for k, v in state.items() if k != "log_temperature"})
    with pytest.raises(ValueError, match=r"is \[2\], not \[3\]"):
        other.load_state_dict({**state, "log_temperature": torch.zeros(2)})


@pytest.mark.parametrize(
    ("method", "network"),
    [("ntkmtl", "shared"), ("pcgrad", "multi_head"), ("equal", "independent")],
)
@pytest.mark.parametrize("critic_layer_norm", [False, True])
def test_joined_critics_learn_the_same(
    method: str, network: str, *, critic_layer_norm: bool
) -> None:
    apart, joined = (
        make_agent(method, network, critic_layer_norm=critic_layer_norm) for _ in range(2)
    )
    joined.join_critics()
    for _ in range(5):
        batch = make_batch()
        assert_close(joined.update(batch), apart.update(batch))
    assert_close(joined.state_dict(), apart.state_dict())
    assert_close(joined.optimizer_state(), apart.optimizer_state())
    apart.load_state_dict(joined.state_dict())
    apart.load_optimizer_state(joined.optimizer_state())


class LayerLog:
    """Applies layers and remembers them."""

    def __init__(self) -> None:
        self.layers: list[nn.Module] = []

    def __call__(self, layer: nn.Module, inputs: Tensor) -> Tensor:
        self.layers.append(layer)
        return apply_layer(layer, inputs)


@pytest.mark.parametrize(("device", "ensembles"), [("cpu", 0), ("meta", 3)])
def test_critics_are_joined_off_the_cpu(
    device: str, ensembles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "Generator", GeneratorForAnyDevice)
    agent = make_agent(device=device)
    batch = Batch(*(values.to(device) for values in make_batch()))
    for critic in (agent.critic, agent.target_critic):
        log = LayerLog()
        critic(batch.observations, batch.actions, log)
        assert sum(isinstance(layer, Ensemble) for layer in log.layers) == ensembles


def test_the_target_critic_follows_by_polyak_averaging() -> None:
    agent = make_agent(tau=0.25)
    with torch.no_grad():
        for target, source in zip(
            agent.target_critic.parameters(), agent.critic.parameters(), strict=True
        ):
            target.fill_(1.0)
            source.fill_(5.0)
    agent.polyak_update()
    assert all((p == 2.0).all() for p in agent.target_critic.parameters())


def test_the_evaluated_policy_is_the_running_average_of_the_actor() -> None:
    agent = make_agent(policy_tau=0.25)
    observations = torch.randn(TASKS, 4, OBSERVATION, dtype=torch.float64)
    expected = [parameter.detach().clone() for parameter in agent.actor.parameters()]
    for _ in range(3):
        agent.update(make_batch())
        for average, parameter in zip(expected, agent.actor.parameters(), strict=True):
            average.lerp_(parameter.detach(), 0.25)
    for average, parameter in zip(expected, agent.average_actor.parameters(), strict=True):
        assert_close(parameter, average)
    mode = agent.act(observations, deterministic=True)
    assert torch.equal(mode, agent.average_actor.mode(observations))
    assert not torch.equal(mode, agent.actor.mode(observations))


def test_averaging_the_policy_does_not_change_what_is_learnt() -> None:
    averaged, plain = make_agent(policy_tau=0.01), make_agent()
    for _ in range(3):
        batch, noise = make_batch(), plain.draw_noise()
        averaged.update(batch, noise)
        plain.update(batch, noise)
    assert all(map(torch.equal, averaged.actor.parameters(), plain.actor.parameters()))
    assert all(map(torch.equal, averaged.critic.parameters(), plain.critic.parameters()))


@every_method
def test_an_update_never_waits_for_the_device(method: str, network: str) -> None:
    agent, batch = make_agent(method, network, dtype=torch.float32), make_batch(torch.float32)
    agent.join_critics()
    agent.update(batch)
    with forbid_host_synchronisation():
        agent.update(batch, diagnose=True)


@pytest.mark.parametrize(("joined", "most"), [(False, 300), (True, 280)])
def test_an_update_takes_few_operations(most: int, *, joined: bool) -> None:
    # On a GPU an update takes as long as it takes to start so many kernels.
    agent, batch = make_agent("ntkmtl", dtype=torch.float32), make_batch(torch.float32)
    if joined:
        agent.join_critics()
    with OperationCount() as operations:
        agent.update(batch)
    assert operations.count <= most


def test_the_device_checks_can_fail() -> None:
    values = torch.tensor([1.0, 2.0])
    for offence in (lambda: values.sum().item(), lambda: values[values > 1]):
        with forbid_host_synchronisation(), pytest.raises(HostSynchronisationError):
            offence()
    with forbid_stray_tensors(), pytest.raises(HostSynchronisationError):
        values.sum() * values.to("meta")


@every_method
def test_an_update_keeps_to_its_device(
    method: str, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The meta device has no random streams, and needs none: the noise is passed in.
    monkeypatch.setattr(torch, "Generator", GeneratorForAnyDevice)
    agent = make_agent(method, network, dtype=torch.float32, device="meta")
    batch = Batch(*(values.to("meta") for values in make_batch(torch.float32)))
    with forbid_stray_tensors():
        shapes = (
            balancer.weighting.noise_shape
            for balancer in (agent.critic_balancer, agent.actor_balancer)
        )
        noise = Noise(
            batch.actions, batch.actions, *(torch.empty(s, device="meta") for s in shapes)
        )
        metrics = agent.update(batch, noise, diagnose=True)
    assert {metric.device.type for metric in metrics.values()} == {"meta"}


@pytest.mark.parametrize("critic_layer_norm", [False, True])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.5])
def test_independent_networks_are_agents_apart(
    max_grad_norm: float, *, critic_layer_norm: bool
) -> None:
    settings: dict[str, Any] = {
        "max_grad_norm": max_grad_norm,
        "critic_layer_norm": critic_layer_norm,
    }
    together = make_agent("equal", "independent", **settings)
    alone = [make_single_agent(together, task, settings) for task in range(TASKS)]
    for _ in range(10):
        batch, noise = make_batch(), together.draw_noise()
        together.update(batch, noise)
        for task, agent in enumerate(alone):
            own = slice(task, task + 1)
            agent.update(
                Batch(*(values[own] for values in batch)),
                noise._replace(next_actions=noise.next_actions[own], actions=noise.actions[own]),
            )
    for task, agent in enumerate(alone):
        for name, tensor in agent.state_dict().items():
            whole = together.state_dict()[name]
            expected = whole[task].view_as(tensor)
            assert_close(tensor, expected, rtol=1e-10, atol=1e-10)


def make_single_agent(together: MultiTaskSAC, task: int, settings: dict[str, Any]) -> MultiTaskSAC:
    """An agent of one task that starts with that task's networks."""
    agent = MultiTaskSAC(
        1,
        OBSERVATION,
        ACTION,
        config=replace(together.config, **settings),
        make_weighting=lambda *_: METHODS["equal"](1),
        seed=0,
        dtype=torch.float64,
    )
    agent.load_state_dict(
        {
            name: together.state_dict()[name][task].view_as(tensor)
            for name, tensor in agent.state_dict().items()
        }
    )
    return agent
