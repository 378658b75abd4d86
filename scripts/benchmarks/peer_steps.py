"""What a user would write instead of a balanced step: the same step of the same critic, by others.

All steps of a kind start from the same critic and see the same inputs and targets. They weigh the
tasks as NTKMTL with one mini-batch does, clip to the same norm, and end with the same optimiser, so
that after as many steps all critics are alike; only how the tasks' gradients come about differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mtrl_ntk.balancing import Balancer, Tape, factored_jacobian, sequential_jacobian
from mtrl_ntk.balancing.balancer import Differentiate
from mtrl_ntk.balancing.methods.ntkmtl import NTKMTL
from mtrl_ntk.rl.critics import SquaredErrorCritic
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM
from mtrl_ntk.rl.features import RawObservations
from mtrl_ntk.rl.networks import Architecture
from mtrl_ntk.rl.sac import SacConfig
from scripts.benchmarks.agents import Size, make_batch

_ADAM = {
    "lr": SacConfig.learning_rate,
    "eps": SacConfig.adam_epsilon,
    "fused": True,
}


class CriticStep(ABC):
    """A critic that takes balanced steps towards fixed targets.

    Args:
        size: How large the critic and its batch are.

    Attributes:
        critic: The critic.
    """

    def __init__(self, size: Size) -> None:
        batch = make_batch(size, "cpu")
        architecture = Architecture(size.tasks, width=size.width, depth=size.depth)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.critic = SquaredErrorCritic(
                RawObservations(OBSERVATION_DIM), ACTION_DIM, architecture
            )
        self.parameters = list(self.critic.parameters())
        self.inputs: Tensor = self.critic.condition(batch.observations, batch.actions)
        self.targets = batch.rewards
        self.optimizer = torch.optim.Adam(self.parameters, **_ADAM)  # type: ignore[arg-type]
        self.weighting = NTKMTL(size.tasks)

    @abstractmethod
    def step(self) -> None:
        """Takes one step."""

    def weigh(self, squared_norms: Tensor) -> Tensor:
        """Weights of the tasks from the squared norms of their gradients."""
        weights: Tensor = self.weighting(squared_norms[:, None, None])
        return weights / len(weights)

    def descend(self) -> None:
        """Clips the gradient and lets the optimiser take it."""
        nn.utils.clip_grad_norm_(self.parameters, SacConfig.max_grad_norm)
        self.optimizer.step()

    def task_losses(self) -> Tensor:
        """Mean loss of each task."""
        outputs = torch.stack([mlp(self.inputs) for mlp in self.critic.mlps])
        return self.critic.losses(outputs, self.targets).mean(1)


class OwnStep(CriticStep):
    """This package's step: one backward pass, and one batched product per layer."""

    differentiate: Differentiate = staticmethod(factored_jacobian)

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self._balancer = Balancer(
            self.critic,
            self.weighting,
            self.optimizer,
            SacConfig.max_grad_norm,
            self.differentiate,
        )

    def step(self) -> None:
        """See the base class."""
        tape = Tape()
        outputs = torch.stack([mlp(self.inputs, tape) for mlp in self.critic.mlps])
        self._balancer.step(tape, self.critic.losses(outputs, self.targets))


class SequentialStep(OwnStep):
    """The published way: one backward pass per task."""

    differentiate = staticmethod(sequential_jacobian)


class RowsStep(CriticStep):
    """A step from the gradients of each task, kept parameter by parameter."""

    @abstractmethod
    def rows(self) -> list[Tensor]:
        """Gradients of the tasks' losses, ``[tasks, *shape]`` for each parameter."""

    def step(self) -> None:
        """See the base class."""
        rows = self.rows()
        norms = torch.stack([row.flatten(1).square().sum(1) for row in rows]).sum(0)
        weights = self.weigh(norms)
        for parameter, row in zip(self.parameters, rows, strict=True):
            parameter.grad = torch.tensordot(weights, row, 1)
        self.descend()


class VmapStep(RowsStep):
    """``torch.func``: the gradient of one task's loss, vectorised over the tasks."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self._names = [name for name, _ in self.critic.mlps.named_parameters()]
        self._gradients = vmap(grad(self._task_loss), in_dims=(None, 0, 0))

    def _task_loss(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of one task, of inputs ``[batch, features]``."""
        outputs = []
        for index, mlp in enumerate(self.critic.mlps):
            prefix = f"{index}."
            own = {
                name.removeprefix(prefix): parameter
                for name, parameter in parameters.items()
                if name.startswith(prefix)
            }
            outputs.append(functional_call(mlp, own, (inputs,)))
        return self.critic.losses(torch.stack(outputs), targets).mean()

    def rows(self) -> list[Tensor]:
        """See the base class."""
        parameters = dict(zip(self._names, (p.detach() for p in self.parameters), strict=True))
        gradients = self._gradients(parameters, self.inputs, self.targets)
        return [gradients[name] for name in self._names]


class AutojacStep(RowsStep):
    """TorchJD's ``autojac``: all rows of the Jacobian at once, through vectorised autograd."""

    def rows(self) -> list[Tensor]:
        """See the base class."""
        from torchjd.autojac import jac

        return list(jac(self.task_losses(), self.parameters))


class AutogramStep(CriticStep):
    """TorchJD's ``autogram``: the Gramian without the Jacobian, then a backward pass of the sum."""

    def __init__(self, size: Size) -> None:
        from torchjd.autogram import Engine

        super().__init__(size)
        # Each task is an element of the batch, so that the Jacobians of layers are block-diagonal.
        self._engine = Engine(*self.critic.mlps, batch_dim=0)

    def step(self) -> None:
        """See the base class."""
        losses = self.task_losses()
        weights = self.weigh(self._engine.compute_gramian(losses).diagonal())
        self.optimizer.zero_grad()
        losses.backward(weights)
        self.descend()


class _Spaces(gymnasium.Env[Any, Any]):
    """The spaces of Meta-World with the id of a task; nothing to step."""

    def __init__(self, num_tasks: int) -> None:
        self.observation_space = Box(-np.inf, np.inf, (OBSERVATION_DIM + num_tasks,), np.float32)
        self.action_space = Box(-1, 1, (ACTION_DIM,), np.float32)


class StableBaselinesUpdate:
    """Stable-Baselines3's SAC with a network of the same size and a batch of as many rows.

    It has one temperature, does not clip, and does not balance.

    Args:
        size: How large an update is.
    """

    def __init__(self, size: Size) -> None:
        from stable_baselines3 import SAC
        from stable_baselines3.common.logger import Logger

        self._rows = size.tasks * size.rows
        self.model = SAC(
            "MlpPolicy",
            _Spaces(size.tasks),
            buffer_size=self._rows,
            policy_kwargs={"net_arch": [size.width] * size.depth},
            seed=0,
            device="cpu",
        )
        self.model.set_logger(Logger(None, []))
        self._fill(size)

    def _fill(self, size: Size) -> None:
        """Puts a batch into the replay memory."""
        batch = make_batch(size, "cpu")
        ids = torch.eye(size.tasks)[:, None].expand(-1, size.rows, -1)
        observations, following = (
            torch.cat([part, ids], 2).flatten(0, 1).numpy()
            for part in (batch.observations, batch.next_observations)
        )
        actions, rewards = batch.actions.flatten(0, 1).numpy(), batch.rewards.flatten().numpy()
        memory = self.model.replay_buffer
        assert memory is not None
        for row in range(self._rows):
            one = slice(row, row + 1)
            memory.add(
                observations[one], following[one], actions[one], rewards[one], np.zeros(1), [{}]
            )

    def step(self) -> None:
        """Updates everything once."""
        self.model.train(gradient_steps=1, batch_size=self._rows)
