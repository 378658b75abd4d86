"""What a balancing method is: a function from one statistic of the tasks to one weight per task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from mtrl_ntk.balancing.jacobian import Jacobian


@dataclass(frozen=True)
class NoHyperparameters:
    """The configuration of a method that has nothing to set."""


class Statistics(NamedTuple):
    """What the tasks' losses and gradients tell a method, none of it requiring gradients."""

    jacobian: Jacobian
    """The tasks' gradients, finite throughout."""
    task_losses: Tensor
    """Mean loss of each task, ``[tasks]``; the others' mean stands in for one not finite."""


class Weighting(nn.Module, ABC):
    """Base of all balancing methods.

    Weights are in mean scale: the loss that is minimised is the mean over tasks of weight times
    loss, so that weights of one are the ordinary multi-task loss. A method derives from the
    subclass that names its statistic, keeps its state in buffers, and stands in ``METHODS``.

    Attributes:
        config_class: Frozen dataclass of the method's hyper-parameters.
        num_minibatches: Rows per task that the method wants in the Jacobian.
    """

    config_class: ClassVar[type[Any]] = NoHyperparameters
    num_minibatches: int = 1

    def __init__(self, num_tasks: int, config: object | None = None) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        self.config = self.config_class() if config is None else config

    @abstractmethod
    def weigh(self, statistics: Statistics) -> Tensor:
        """Draws the method's statistic and turns it into weights ``[tasks]``."""


class LossWeighting(Weighting):
    """Weights from the losses alone: ``forward(task_losses [tasks]) -> [tasks]``."""

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.task_losses)
        return weights


class NormWeighting(Weighting):
    """Weights from gradient norms alone: ``forward(squared_norms [tasks]) -> [tasks]``."""

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.jacobian.squared_norms())
        return weights


class GramianWeighting(Weighting):
    """Weights from inner products of gradients: ``forward(gramian [tasks, tasks]) -> [tasks]``."""

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.jacobian.gramian())
        return weights


class KernelWeighting(Weighting):
    """Weights from each task's tangent kernel: ``forward(kernels [tasks, n, n]) -> [tasks]``."""

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.jacobian.kernels())
        return weights


class JacobianWeighting(Weighting):
    """Weights from whole gradients: ``forward(rows [tasks, n, parameters]) -> [tasks]``."""

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.jacobian.rows())
        return weights
