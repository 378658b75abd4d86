"""Multi-task Soft Actor-Critic whose actor and critic losses are balanced between the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing import (
    BalancedStep,
    Balancer,
    Jacobian,
    Request,
    Tape,
    Weighting,
    apply_layer,
    factored_jacobian,
)
from mtrl_ntk.balancing.balancer import Differentiate
from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.layers import split_parameters
from mtrl_ntk.balancing.memory import as_rows, lay_in_a_row
from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.tape import ApplyLayer
from mtrl_ntk.rl import losses
from mtrl_ntk.rl.adam import Adam
from mtrl_ntk.rl.critics import CRITICS, TWINS, CriticOptions, TwinCritic
from mtrl_ntk.rl.features import Features, RawObservations
from mtrl_ntk.rl.networks import (
    BLOCKS,
    NETWORK_KINDS,
    Actor,
    Architecture,
    NetworkKind,
    PolicySample,
)
from mtrl_ntk.rl.precision import AskedPrecision, layers_in, resolve_precision
from mtrl_ntk.rl.reward_scale import RewardScale, make_reward_scale
from mtrl_ntk.rl.schedules import SHAPES, Schedule, at
from mtrl_ntk.rl.seeds import seed_of
from mtrl_ntk.rl.types import Batch, Metrics
from mtrl_ntk.settings import Settings, number, setting


@dataclass(frozen=True)
class SacConfig(Settings):
    """Hyper-parameters of the agent; the defaults are those of the Meta-World+ protocol."""

    batch_size: int = number(128, at_least=1)
    """Replay rows per task in each update."""
    n_steps: int = number(1, at_least=1, at_most=100)
    """Steps whose rewards a return sums before it trusts the critic; uncorrected above 1."""
    gamma: float = number(0.99, above=0, at_most=1)
    """Discount factor."""
    tau: float = number(0.005, above=0, at_most=1)
    """Share of the critic that is blended into the target critic at each update."""
    policy_tau: float = number(1.0, above=0, at_most=1)
    """Share of the actor that is blended, at each update, into the average that is evaluated."""
    learning_rate: float = number(3e-4, above=0, limit=10**6)
    """Adam step size of the actor and the critic."""
    temperature_learning_rate: float = number(3e-4, above=0, limit=10**6)
    """Adam step size of the temperatures."""
    learning_rate_end: float = number(1.0, at_least=0, at_most=1)
    """Share of both step sizes that is left at decay_steps; 1 keeps them as they are."""
    learning_rate_schedule: str = setting("linear", choices=SHAPES)
    """How they get there."""
    adam_epsilon: float = number(1e-5, above=0, limit=10**6)
    """Adam's denominator term."""
    max_grad_norm: float = number(1.0, at_least=0)
    """Global gradient norm to which actor and critic are clipped; 0 turns clipping off."""
    balance: Literal["both", "critic", "actor"] = "both"
    """Networks whose losses the method balances; the tasks of the other one count equally."""
    network: str = setting("shared", choices=NETWORK_KINDS)
    """What tasks share: all (shared: one-hot id; task_embedding), the trunk, or nothing."""
    embedding_dim: int = number(50, at_least=1, limit=2**16)
    """Features of each task's vector with the network task_embedding."""
    width: int = number(400, at_least=1, limit=2**16)
    """Units of each hidden layer."""
    depth: int = number(3, at_least=1, limit=100)
    """Hidden layers; with residual blocks, blocks of two layers."""
    actor_blocks: str = setting("plain", choices=BLOCKS)
    """Hidden layers of the actor: plain, or blocks x + W2 relu(W1 LN(x)) that are added up."""
    critic_blocks: str = setting("plain", choices=BLOCKS)
    """The same of the critics."""
    critic_layer_norm: bool = False
    """Layer normalisation before each activation of a plain critic."""
    critic: str = setting("mse", choices=CRITICS)
    """What the critic learns: values by their squared error, or histograms of them (HL-Gauss)."""
    critic_bins: int = number(101, at_least=2, limit=10_000)
    """Bins of a categorical critic's histograms."""
    critic_range: float = number(10.0, above=0, limit=10**6)
    """A categorical critic's values lie between minus this and this; scale rewards accordingly."""
    twin: str = setting("min", choices=TWINS)
    """What the values of the two critics are together."""
    actor_head_init: float = number(1e-3, at_least=0, limit=1000)
    """Largest entry of the actor's last layer at first; 0 initialises it like the others."""
    critic_head_init: float = number(3e-3, at_least=0, limit=1000)
    """Largest entry of the critics' last layers at first; 0 initialises them like the others."""
    log_std_min: float = number(-20.0, at_least=-100, at_most=20)
    """Lower bound of the policy's log standard deviation, before the tanh."""
    log_std_max: float = number(2.0, at_least=-100, at_most=20)
    """Upper bound of the policy's log standard deviation, before the tanh."""
    initial_temperature: float = number(1.0, above=0, limit=10**6)
    """Temperature of every task at the start."""
    shared_temperature: bool = False
    """One temperature for all tasks instead of one per task."""
    target_entropy: float | None = None
    """Entropy that the temperatures aim at, in nats; by default minus the action dimension."""
    target_entropy_end: float | None = None
    """Entropy that they aim at from decay_steps on, linear until then; by default the same."""
    precision: AskedPrecision = "float32"
    """Of products while learning: bf16 is inexact and fast, tf32 so on CUDA; auto is bf16 where a
    CPU multiplies in it, else float32."""
    reward_scale: float = number(1.0, above=0, limit=10**6)
    """Factor on the rewards that the critic learns from; logged returns stay unscaled."""
    normalize_returns: float = number(0.0, at_least=0, limit=10**6)
    """Scale each task's rewards so that its largest discounted return is this; 0 does not."""

    @property
    def shares(self) -> NetworkKind:
        """What the tasks share of the networks."""
        return NETWORK_KINDS[self.network]

    @property
    def decays(self) -> bool:
        """Whether learning rates or target entropy change with the updates."""
        return self.learning_rate_end != 1 or self.target_entropy_end is not None

    @property
    def policy_name(self) -> str:
        """What the tensors of the policy that is evaluated are filed under."""
        # With a share of one the average is the actor itself.
        return "actor" if self.policy_tau == 1 else "average_actor"

    def architecture(self, num_tasks: int) -> Architecture:
        """Shape of the actor's network, from which the critics' differ in what options say."""
        return Architecture(
            num_tasks,
            self.network,
            self.width,
            self.depth,
            self.embedding_dim,
            blocks=self.actor_blocks,
            head_init=self.actor_head_init,
        )


MakeCritic = Callable[[Features, int, Architecture, CriticOptions], TwinCritic]


def make_actor(config: SacConfig, features: Features, num_tasks: int, action_dim: int) -> Actor:
    """Makes the policy of an agent, whose first weights are drawn from PyTorch's global stream."""
    return Actor(
        features,
        action_dim,
        config.architecture(num_tasks),
        log_std_bounds=(config.log_std_min, config.log_std_max),
    )


def make_critic(
    config: SacConfig,
    features: Features,
    num_tasks: int,
    action_dim: int,
    kind: MakeCritic | None = None,
) -> TwinCritic:
    """Makes the critic of an agent, likewise; of the configuration's kind, unless one is given."""
    architecture = replace(
        config.architecture(num_tasks),
        layer_norm=config.critic_layer_norm,
        blocks=config.critic_blocks,
        head_init=config.critic_head_init,
    )
    options = CriticOptions(config.twin, config.critic_bins, config.critic_range)
    return (kind or CRITICS[config.critic])(features, action_dim, architecture, options)


def tensors_of(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors of some modules by name, each below that of its module."""
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


@torch.no_grad()
def copy_tensors(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Copies tensors into those of the same names.

    Raises:
        ValueError: If names or shapes differ.
    """
    if own.keys() != state.keys():
        raise ValueError(f"tensors differ: {sorted(own.keys() ^ state.keys())}")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise ValueError(f"{name} is {list(state[name].shape)}, not {list(tensor.shape)}")
        tensor.copy_(state[name])


Part = Literal["critic", "actor"]
Network = TypeVar("Network", bound=nn.Module)
MakeWeighting = Callable[[Part, int], Weighting]


def make_weighting(
    method: type[Weighting],
    config: object | None,
    num_tasks: int,
    part: Part,
    num_parameters: int,
    *,
    balance: str = SacConfig.balance,
) -> Weighting:
    """Makes the balancing method of a critic or an actor with so many shared parameters.

    An actor's loss is negative once the values are positive. Methods that take logarithms or ratios
    of losses balance the critic only, and the actor's tasks count equally.
    """
    if balance not in ("both", part) or (part == "actor" and method.positive_losses):
        return METHODS["equal"](num_tasks)
    return method(num_tasks, config, num_parameters)


class Noise(NamedTuple):
    """Standard normal noise of one update."""

    next_actions: Tensor
    """For the actions of the critic's target, ``[tasks, batch, action]``."""
    actions: Tensor
    """For the actions that the actor is improved on, ``[tasks, batch, action]``."""
    critic_weighting: Tensor
    """What the critic's balancing method asks for."""
    actor_weighting: Tensor
    """What the actor's balancing method asks for."""


class MultiTaskSAC:
    """One actor and one twin critic for all tasks, with a temperature per task.

    Actor and critic are each balanced by a weighting of their own. The temperature is not balanced:
    a task's temperature only answers to that task's entropy.

    Args:
        num_tasks: Number of tasks.
        observation_dim: Observation features, without the task id.
        action_dim: Action features.
        config: Hyper-parameters.
        make_weighting: Makes a balancing method for the critic, then for the actor, given the
            number of the network's shared parameters.
        seed: Seed of the networks' initial weights and of the noise.
        device: Where everything lives.
        dtype: Floating point type of everything.
        features: What observations become before a network sees them; nothing else when left out.
        critic: Makes the critic; the configuration's kind when left out.
        reward_scale: What the critic learns rewards by; the configuration's factor when left out.
        num_updates: In how many updates what the configuration gives an end for gets there.
        differentiate: How gradients are taken; tests and benchmarks pass a reference.
    """

    def __init__(
        self,
        num_tasks: int,
        observation_dim: int,
        action_dim: int,
        *,
        config: SacConfig,
        make_weighting: MakeWeighting,
        seed: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        features: Features | None = None,
        critic: MakeCritic | None = None,
        reward_scale: RewardScale | None = None,
        num_updates: int = 0,
        differentiate: Differentiate = factored_jacobian,
    ) -> None:
        self.config, self.num_tasks = config, num_tasks
        self.device = torch.device(device)
        self.dtype = dtype
        self.precision = resolve_precision(config.precision, self.device)
        seed = seed_of(seed)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._noise_dims = (num_tasks, config.batch_size, action_dim)
        self._num_updates = num_updates
        target = -float(action_dim) if config.target_entropy is None else config.target_entropy
        self.target_entropy = self._scheduled(target, config.target_entropy_end)
        self.features = (features or RawObservations(observation_dim)).to(self.device, dtype)
        powers = [0.0, *(config.gamma**steps for steps in range(1, config.n_steps + 1))]
        self._gamma_powers = torch.tensor(powers, device=self.device, dtype=dtype)
        reward_scale = reward_scale or make_reward_scale(
            num_tasks, config.reward_scale, config.normalize_returns, config.gamma
        )
        self.reward_scale = reward_scale.to(self.device, dtype)
        self._make_networks(num_tasks, action_dim, critic, seed)
        self._make_temperatures(num_tasks)
        self._make_balancers(make_weighting, differentiate)

    def _scheduled(
        self, start: float, end: float | None, shape: str = "linear"
    ) -> float | Schedule:
        if end is None or end == start:
            return start
        return Schedule(start, end, self._num_updates, shape)

    def _make_networks(
        self, num_tasks: int, action_dim: int, kind: MakeCritic | None, seed: int
    ) -> None:
        config = self.config
        # The initialisers draw from the global stream: it is forked so as to leave no trace.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            actor = make_actor(config, self.features, num_tasks, action_dim)
            critic = make_critic(config, self.features, num_tasks, action_dim, kind)
        self.actor = actor.to(self.device, self.dtype)
        self.critic = critic.to(self.device, self.dtype)
        self.target_critic = self._copied(self.critic).requires_grad_(False)
        if self.device.type != "cpu":
            self.join_critics()
        is_actor = config.policy_name == "actor"
        self.average_actor = self.actor if is_actor else self._copied(self.actor)
        followers: list[tuple[nn.Module, nn.Module, float]] = [
            (self.target_critic, self.critic, config.tau),
            (self.average_actor, self.actor, config.policy_tau),
        ]
        self._followers: list[tuple[list[Tensor], list[Tensor], float]] = [
            (list(follower.parameters()), list(network.parameters()), share)
            for follower, network, share in followers
            if follower is not network
        ]
        if self.device.type == "cpu":
            for network in (self.actor, self.critic, self.target_critic, self.average_actor):
                lay_in_a_row(list(network.parameters()))

    def _make_temperatures(self, num_tasks: int) -> None:
        self.log_alpha = torch.full(
            (1 if self.config.shared_temperature else num_tasks,),
            self.config.initial_temperature,
            device=self.device,
            dtype=self.dtype,
        ).log_()
        self.log_alpha.requires_grad_()
        self.log_alpha.grad = torch.zeros_like(self.log_alpha)

    def _copied(self, network: Network) -> Network:
        """A copy of a network that shares its features."""
        return deepcopy(network, {id(self.features): self.features})

    def join_critics(self) -> None:
        """Applies the twin critics, and their targets, as one network each: done on a GPU."""
        for critic in (self.critic, self.target_critic):
            critic.join()

    def _make_balancers(self, make_weighting: MakeWeighting, differentiate: Differentiate) -> None:
        def balancer(part: Part, network: nn.Module) -> Balancer:
            num_parameters = sum(p.numel() for p in split_parameters(network)[0])
            return Balancer(
                network,
                make_weighting(part, num_parameters).to(self.device, self.dtype),
                self._optimizers[part],
                self.config.max_grad_norm,
                differentiate,
                # Tests hold what networks are made of here.
                check=False,
            )

        def optimizer(parameters: Iterable[Tensor], rate: float) -> Adam:
            config = self.config
            end, shape = config.learning_rate_end * rate, config.learning_rate_schedule
            return Adam(parameters, self._scheduled(rate, end, shape), config.adam_epsilon)

        self._optimizers = {
            "critic": optimizer(self.critic.parameters(), self.config.learning_rate),
            "actor": optimizer(self.actor.parameters(), self.config.learning_rate),
            "temperature": optimizer([self.log_alpha], self.config.temperature_learning_rate),
        }
        self.critic_balancer = balancer("critic", self.critic)
        self.actor_balancer = balancer("actor", self.actor)

    def scheduled(self) -> dict[str, Tensor]:
        """What the next update takes for numbers that change with the updates, by name."""
        numbers = {
            "learning_rate": self._optimizers["actor"].learning_rate,
            "temperature_learning_rate": self._optimizers["temperature"].learning_rate,
            "target_entropy": self.target_entropy,
        }
        updates = self._optimizers["temperature"].num_steps
        values = {name: at(value, updates) for name, value in numbers.items()}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @property
    def temperature(self) -> Tensor:
        """Temperature of each task, without gradient, ``[tasks]``."""
        return self.log_alpha.detach().exp().expand(self.num_tasks)

    @torch.no_grad()
    def act(
        self, observations: Tensor, noise: Tensor | None = None, *, deterministic: bool = False
    ) -> Tensor:
        """Actions for a batch of observations of every task.

        Args:
            observations: ``[tasks, copies, observation]``.
            noise: Standard normal noise ``[tasks, copies, action]``; drawn when left out.
            deterministic: Take the mode of the averaged policy instead of a sample of the present.

        Returns:
            ``[tasks, copies, action]``, each in [-1, 1].
        """
        if deterministic:
            return self.average_actor.mode(observations)
        noise = self.draw_action_noise(observations.shape[1]) if noise is None else noise
        return self.actor.sample(observations, noise).actions

    def draw_action_noise(self, copies: int) -> Tensor:
        """Draws noise for :meth:`act` from the agent's stream, ``[tasks, copies, action]``."""
        num_tasks, _, action_dim = self._noise_dims
        return self._draw((num_tasks, copies, action_dim), self.generator)

    def draw_noise(self, generator: torch.Generator | None = None) -> Noise:
        """Draws the noise of one update from a random stream: the agent's when left out."""
        generator = generator or self.generator
        return Noise(
            self._draw(self._noise_dims, generator),
            self._draw(self._noise_dims, generator),
            self._draw(self.critic_balancer.weighting.noise_shape, generator),
            self._draw(self.actor_balancer.weighting.noise_shape, generator),
        )

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)

    def update(
        self, batch: Batch, noise: Noise | None = None, *, diagnose: bool = False
    ) -> Metrics:
        """Improves critic, actor and temperatures once and moves the target critic after them.

        Args:
            batch: ``config.batch_size`` transitions per task.
            noise: Noise of the sampled actions; drawn from the agent's stream when left out.
            diagnose: Also report the smallest cosine between two tasks' gradients.

        Returns:
            What happened, on the device.
        """
        noise = self.draw_noise() if noise is None else noise
        critic_step = self.update_critic(batch, noise, diagnose=diagnose)
        actor_step, log_probs = self.update_actor(batch, noise, diagnose=diagnose)
        self.update_temperature(log_probs)
        self.polyak_update()
        return {
            **_balance_metrics("critic", critic_step),
            **_balance_metrics("actor", actor_step),
            "temperature": self.temperature,
            "entropy": losses.entropy(log_probs),
        }

    def update_critic(self, batch: Batch, noise: Noise, *, diagnose: bool = False) -> BalancedStep:
        """Regresses both critics to the soft return of the policy's next actions."""
        targets = self._critic_targets(batch, noise)
        tape = Tape()
        sample_losses, outputs = self._critic_losses(batch, targets, tape)
        return self.critic_balancer.step(
            tape,
            sample_losses,
            outputs=self.critic.balanced_outputs(outputs),
            noise=noise.critic_weighting,
            reevaluate=lambda: self._critic_losses(batch, targets, apply_layer)[0],
            diagnose=diagnose,
        )

    def _lower_precision(self) -> AbstractContextManager[object]:
        return layers_in(self.precision, self.device)

    @torch.no_grad()
    def _critic_targets(self, batch: Batch, noise: Noise) -> Tensor:
        """Soft return of the policy's next actions, ``[tasks, batch]``."""
        with self._lower_precision():
            following = self.actor.sample(batch.next_observations, noise.next_actions)
            outputs = self.target_critic(batch.next_observations, following.actions)
        return losses.td_target(
            self.reward_scale(batch.rewards),
            losses.discounts(batch.terminated, self._gamma_powers),
            self.target_critic.value(outputs),
            following.log_probs,
            self.temperature,
        )

    def _critic_losses(
        self, batch: Batch, targets: Tensor, apply: ApplyLayer
    ) -> tuple[Tensor, Tensor]:
        """Losses ``[tasks, batch]`` and the critic's outputs that they are of."""
        with self._lower_precision():
            outputs: Tensor = self.critic(batch.observations, batch.actions, apply)
        return self.critic.losses(outputs, targets), outputs

    def update_actor(
        self, batch: Batch, noise: Noise, *, diagnose: bool = False
    ) -> tuple[BalancedStep, Tensor]:
        """Moves the policy towards actions of higher soft value.

        Returns:
            The step and the log-densities ``[tasks, batch]`` of the actions it was taken on.
        """
        tape = Tape()
        sample_losses, sample = self._actor_losses(batch, noise, tape)
        step = self.actor_balancer.step(
            tape,
            sample_losses,
            outputs=sample.mean,
            noise=noise.actor_weighting,
            reevaluate=lambda: self._actor_losses(batch, noise, apply_layer)[0],
            diagnose=diagnose,
        )
        return step, sample.log_probs.detach()

    def _actor_losses(
        self, batch: Batch, noise: Noise, apply: ApplyLayer
    ) -> tuple[Tensor, PolicySample]:
        """Losses ``[tasks, batch]`` and the actions that they are of."""
        with self._lower_precision():
            sample = self.actor.sample(batch.observations, noise.actions, apply)
            outputs = self.critic(batch.observations, sample.actions)
        values = self.critic.value(outputs)
        return losses.actor_loss(values, sample.log_probs, self.temperature), sample

    def jacobian(self, part: Part, batch: Batch, noise: Noise, num_minibatches: int) -> Jacobian:
        """The tasks' gradients of a part's losses; the agent stays as it is.

        Args:
            part: Whose losses and parameters.
            batch: ``config.batch_size`` transitions per task.
            noise: As for :meth:`update`.
            num_minibatches: Rows per task; has to divide the batch size.
        """
        tape = Tape()
        if part == "critic":
            targets = self._critic_targets(batch, noise)
            sample_losses, _ = self._critic_losses(batch, targets, tape)
        else:
            sample_losses, _ = self._actor_losses(batch, noise, tape)
        return factored_jacobian(tape, sample_losses, Request(num_minibatches))

    def update_temperature(self, log_probs: Tensor) -> None:
        """Moves each temperature towards the target entropy, given ``[tasks, batch]`` densities."""
        target = at(self.target_entropy, self._optimizers["temperature"].num_steps)
        # Rows that are not finite ask for no change.
        log_probs = log_probs.masked_fill(~is_finite(log_probs), -target)
        log_alpha = self.log_alpha.expand(self.num_tasks)
        task_losses = losses.temperature_loss(log_alpha, log_probs, target)
        # As for the networks: where nothing is shared, each task has a loss, not a share in a mean.
        apart = self.config.shares.shares_nothing
        loss = task_losses.sum() if apart else task_losses.mean()
        (gradient,) = torch.autograd.grad(loss, [self.log_alpha])
        assert self.log_alpha.grad is not None
        self.log_alpha.grad.copy_(gradient)
        self._optimizers["temperature"].step()

    @torch.no_grad()
    def polyak_update(self) -> None:
        """Blends the critic into its target, and the actor into the average that is evaluated."""
        for parameters, sources, share in self._followers:
            moved, towards = as_rows(parameters, sources)
            torch._foreach_lerp_(moved, towards, share)

    def state_dict(self) -> dict[str, Tensor]:
        """All learned tensors by name; the optimisers' moments are not among them."""
        modules = {
            "features": self.features,
            "actor": self.actor,
            "critic": self.critic,
            "target_critic": self.target_critic,
            "actor_weighting": self.actor_balancer.weighting,
            "critic_weighting": self.critic_balancer.weighting,
            self.config.policy_name: self.average_actor,
        }
        # Checkpoints have always called it so.
        return {**tensors_of(modules), "log_temperature": self.log_alpha.detach()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copies the tensors of :meth:`state_dict` into this agent.

        Raises:
            ValueError: If the names or shapes are not this agent's.
        """
        copy_tensors(state, self.state_dict())

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimisers' moments and step counts by name; empty before the first update."""
        return {
            f"{name}.{key}": tensor
            for name, optimizer in self._optimizers.items()
            for key, tensor in optimizer.state().items()
        }

    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Continues with the moments of :meth:`optimizer_state`, which are copied.

        Raises:
            ValueError: If the names or shapes are not those of this agent's optimisers.
        """
        for name, optimizer in self._optimizers.items():
            prefix = f"{name}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            try:
                optimizer.load_state(own)
            except ValueError as error:
                raise ValueError(f"the {name}'s {error}") from error


def _balance_metrics(network: str, step: BalancedStep) -> Metrics:
    metrics = {
        f"losses/{network}": step.losses,
        f"weights/{network}": step.weights,
        f"ntk/{network}": step.eigenvalues,
        f"skipped/{network}": step.skipped,
        f"gradient_norm/{network}": step.gradient_norm,
    }
    if step.minimum_cosine is not None:
        metrics[f"minimum_cosine/{network}"] = step.minimum_cosine
    if step.residual is not None:
        metrics[f"residual/{network}"] = step.residual
    return metrics
