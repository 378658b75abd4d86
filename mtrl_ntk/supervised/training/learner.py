"""An update: losses of a batch, balanced gradients, a step of the optimiser."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.balancing.task_balancer import TaskBalancer
from mtrl_ntk.rl.types import Metrics
from mtrl_ntk.supervised.config import SupervisedConfig
from mtrl_ntk.supervised.datasets.dataset import Dataset, Examples
from mtrl_ntk.supervised.networks.network import Network
from mtrl_ntk.supervised.networks.registry import NETWORKS
from mtrl_ntk.supervised.scores import PART, TRUNK
from mtrl_ntk.supervised.tasks import Task


class Learner:
    """A network that learns: with its tasks, its balancing method and its optimiser.

    Args:
        config: The run's configuration.
        dataset: What it learns from.
        device: Where.

    Attributes:
        tasks: The tasks.
        network: The network.
        balancer: Weighs the tasks.
        optimizer: Adam.
    """

    def __init__(self, config: SupervisedConfig, dataset: Dataset, device: torch.device) -> None:
        self.device = device
        self.tasks: list[Task] = [task for task in dataset.tasks if task.name in config.task_names]
        kind, method = NETWORKS[config.network], METHODS[config.method]
        self.network: Network = kind(config.architecture, dataset.inputs, self.tasks).to(device)
        self.balancer = TaskBalancer(
            method(len(self.tasks), config.weighting).to(device),
            self.network.trunk,
            self.network.heads,
            representation=self.network.trunk,
        )
        rate = config.epochs.learning_rate
        self.optimizer = torch.optim.Adam(self.network.parameters(), rate, fused=True)

    def update(self, examples: Examples, rate: float, *, look: bool = False) -> Metrics:
        """Learns from a batch; returns what there is to log, by name, ``[tasks]`` or scalars.

        Args:
            examples: The batch.
            rate: Learning rate.
            look: Whether each task's kernel is looked at as well.
        """
        self.network.train()
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad()
        losses = self.losses(examples)
        seen = {f"ntk/{TRUNK}": self._eigenvalues(losses)} if look else {}
        step = self.balancer.backward(losses)
        # Without a gradient Adam would still move by its momentum.
        if not bool(step.skipped.all()):
            self.optimizer.step()
        if self.balancer.weighting.observes_step:
            with torch.no_grad():
                self.balancer.observe(self.losses(examples))
        return {
            f"losses/{PART}": step.losses,
            f"weights/{PART}": step.weights,
            f"ntk/{PART}": step.eigenvalues,
            f"skipped/{PART}": step.skipped,
            f"gradient_norm/{PART}": step.gradient_norm,
            **seen,
        }

    def losses(self, examples: Examples) -> list[Tensor]:
        """The losses of each task, ``[rows]``."""
        outputs, targets = self.network(examples.inputs), examples.targets
        return [task.losses(outputs[task.name], targets[task.name]) for task in self.tasks]

    def _eigenvalues(self, losses: list[Tensor]) -> Tensor:
        """Largest eigenvalue of each task's kernel in the trunk, of its mean loss, ``[tasks]``."""
        parameters = [each for each in self.network.trunk.parameters() if each.requires_grad]
        found = []
        for loss in losses:
            gradients = torch.autograd.grad(
                loss.mean(), parameters, retain_graph=True, materialize_grads=True
            )
            found.append(torch.stack([each.square().sum() for each in gradients]).sum())
        return torch.stack(found)

    def state_dict(self) -> dict[str, Tensor]:
        """The network's tensors."""
        return dict(self.network.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        self.network.load_state_dict(state)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Adam's tensors, by the number of the parameter and their name."""
        return {
            f"{index}.{name}": tensor
            for index, of_parameter in self.optimizer.state_dict()["state"].items()
            for name, tensor in of_parameter.items()
        }

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what :meth:`optimizer_state` gave."""
        by_index: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            index, _, name = key.partition(".")
            by_index.setdefault(int(index), {})[name] = tensor.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": by_index, "param_groups": groups})
