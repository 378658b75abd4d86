"""What a balancing method is: a function from one statistic of the tasks to one weight per task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.jacobian import Jacobian, KernelSource, Request
from mtrl_ntk.settings import Settings, check_kind


@dataclass(frozen=True)
class NoHyperparameters(Settings):
    """The configuration of a method that has nothing to set."""


class Statistics(NamedTuple):
    """What the tasks' losses and gradients tell a method, none of it requiring gradients."""

    jacobian: Jacobian
    """The tasks' gradients, finite throughout."""
    losses: Tensor
    """Mean loss of each task as it is, ``[tasks]``."""
    kernels: Tensor
    """Each task's tangent kernel, ``[tasks, rows, rows]``, of the kind the method asks for."""
    noise: Tensor
    """Standard normal numbers of the shape the method asks for."""
    preferences: Tensor | None = None
    """What each task should count, ``[tasks]``, of mean one; None for equally much."""

    @property
    def task_losses(self) -> Tensor:
        """Mean loss of each task, ``[tasks]``; the others' mean stands in for one not finite."""
        finite = is_finite(self.losses)
        mean = self.losses.masked_fill(~finite, 0.0).sum() / finite.sum().clamp(min=1)
        return torch.where(finite, self.losses, mean)


class Weighting(nn.Module, ABC):
    """Base of all balancing methods.

    Weights are in mean scale: the loss that is minimised is the mean over tasks of weight times
    loss, so that weights of one are the ordinary multi-task loss. A method derives from the
    subclass that names its statistic, keeps its state in buffers, and stands in ``METHODS``.

    Args:
        num_tasks: Number of tasks.
        config: The method's hyper-parameters; its defaults when left out.
        num_parameters: Shared parameters of the network, for methods that keep gradients; left out,
            it is that of the first gradients they see.

    Raises:
        ValueError: The number of tasks is none, or the config is another method's.

    Attributes:
        config_class: :class:`Settings` of the method's hyper-parameters.
        balances: Whether the method weighs tasks at all.
        needs_representation: The method needs layers of the tasks' own that read shared features.
        positive_losses: The method needs losses above zero, which an actor's are not: it balances
            critics only, and the actor's tasks count equally.
        kernel_source: Of what the kernels are made that the method gets.
        needs_kernels: Whether it asks for the tasks' gradients in any form, and not for their
            losses alone.
        needs_rows: Whether the method asks more than kernels of the Jacobian.
        num_minibatches: Rows per task that the method wants in the Jacobian.
        noise_shape: Shape of the random numbers that the method wants.
        observes_step: Whether :meth:`observe` wants the losses after the step.
        knows_preferences: The method makes something of preferences itself; others' weights are
            multiplied by them.
        residual: How far the last solution was from the equations that define it, if the method
            solves any; a scalar, zero when exact.
        eigenvalues: Largest eigenvalue of each kernel of the last call, if it was computed.
    """

    config_class: ClassVar[type[Any]] = NoHyperparameters
    balances: ClassVar[bool] = True
    needs_representation: ClassVar[bool] = False
    positive_losses: ClassVar[bool] = False
    needs_kernels: ClassVar[bool] = True
    needs_rows: ClassVar[bool] = False
    observes_step: ClassVar[bool] = False
    knows_preferences: ClassVar[bool] = False
    kernel_source: KernelSource = "loss"
    num_minibatches: int = 1
    noise_shape: tuple[int, ...] = (0,)
    residual: Tensor | None = None
    eigenvalues: Tensor | None = None

    def __init__(
        self, num_tasks: int, config: object | None = None, num_parameters: int = 0
    ) -> None:
        super().__init__()
        if not _is_count(num_tasks):
            raise ValueError(f"the number of tasks is {num_tasks!r}; it must be at least 1")
        if not isinstance(config, self.config_class | None):
            raise ValueError(
                f"the config of {type(self).__name__} is {config!r}; it must be made by "
                f"{self.config_class.__name__}"
            )
        self.num_tasks = num_tasks
        self.num_parameters = num_parameters
        self.config = self.config_class() if config is None else config

    @abstractmethod
    def weigh(self, statistics: Statistics) -> Tensor:
        """Draws the method's statistic and turns it into weights ``[tasks]``."""

    def fit(self, num_parameters: int) -> None:
        """Makes ready for gradients with so many entries; methods override it that have to be."""

    def can_do_with(self, task_losses: Tensor) -> Tensor:
        """Which losses ``[tasks]`` are not negative where the method takes logarithms or ratios."""
        return ~(task_losses < 0) if self.positive_losses else torch.ones_like(task_losses) > 0

    def check_losses(self, task_losses: Tensor) -> None:
        """Waits for the losses and sees whether the method can do with them.

        Raises:
            ValueError: If it cannot.
        """
        if not bool(self.can_do_with(task_losses).all()):
            raise ValueError(
                f"{type(self).__name__} needs losses of at least zero; they are "
                f"{[round(loss, 6) for loss in task_losses.tolist()]}"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:  # noqa: ANN401
        """Does what a change of device or type does; but no number that is kept loses digits."""

        def kept(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            if changed.is_floating_point() and changed.itemsize < torch.float32.itemsize:
                return tensor.to(changed.device, torch.float32)
            return changed

        return super()._apply(kept, recurse)  # type: ignore[no-untyped-call]

    @property
    def request(self) -> Request:
        """What the method will ask of the Jacobian."""
        return Request(
            self.num_minibatches, self.needs_rows, self.kernel_source, self.needs_kernels
        )

    def kernels(self, jacobian: Jacobian) -> Tensor:
        """The kernels ``[tasks, n, n]`` of the method's source, whose eigenvalues are logged."""
        if self.kernel_source == "output":
            return jacobian.output_kernels()
        if self.kernel_source == "representation":
            return jacobian.representation_kernels()
        return jacobian.kernels()

    def combine(self, jacobian: Jacobian, weights: Tensor) -> Tensor:
        """Gradient to descend along, ``[parameters]``: that of the mean of the weighted losses.

        Methods that descend along something else than a weighted sum of this step's gradients
        override it.
        """
        return jacobian.combine(weights)

    def observe(self, task_losses: Tensor) -> None:
        """Receives the losses ``[tasks]`` of the same batch after the step."""

    @torch.no_grad()
    def reset(self) -> None:
        """Forgets all that was learnt from steps."""
        fresh = type(self)(self.num_tasks, self.config, self.num_parameters)
        for own, new in zip(self.modules(), fresh.modules(), strict=True):
            for name, buffer in new.named_buffers(recurse=False):
                setattr(own, name, buffer.to(getattr(own, name)))
        self.residual = self.eigenvalues = None


class LossWeighting(Weighting):
    """Weights from the losses alone: ``forward(task_losses [tasks]) -> [tasks]``."""

    needs_kernels = False

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
    """Weights from inner products of gradients: ``forward(gramian [tasks, tasks]) -> [tasks]``.

    One that knows preferences takes them, ``[tasks]`` or None, as the second argument.
    """

    needs_rows = True

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        gramian = statistics.jacobian.gramian()
        known = (statistics.preferences,) if self.knows_preferences else ()
        weights: Tensor = self(gramian, *known)
        return weights


class KernelWeighting(Weighting):
    """Weights from each task's tangent kernel: ``forward(kernels [tasks, n, n]) -> [tasks]``.

    The kernel is that of the source the method names. ``loss``: inner products of the mini-batch
    losses' gradients. ``output``: of the gradients of every row's outputs, the tangent kernel of
    theory. ``representation``: of the mini-batch losses' gradients with respect to the features
    that the tasks' own layers read, for networks that have such.
    """

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.kernels)
        return weights


class JacobianWeighting(Weighting):
    """Weights from whole gradients: ``forward(gradients [tasks, parameters]) -> [tasks]``."""

    needs_rows = True

    def weigh(self, statistics: Statistics) -> Tensor:
        """See :meth:`Weighting.weigh`."""
        weights: Tensor = self(statistics.jacobian.gradients())
        return weights


def check_method(weighting: object) -> None:
    """Raises an error if something is not a method that was made for a number of tasks."""
    check_kind("the method", weighting, Weighting, "one made for the tasks: METHODS['ntkmtl'](3)")


def _is_count(number: Any) -> bool:  # noqa: ANN401 - as it comes
    return issubclass(type(number), Integral) and number is not True and number > 0


def preferred_sum(parts: Tensor, preferences: Tensor | None) -> Tensor:
    """Sum over tasks of ``[tasks, ...]``, each as often as it is preferred."""
    return parts.sum(0) if preferences is None else preferences.to(parts) @ parts


def floored(values: Tensor, floor: float) -> Tensor:
    """Raises values ``[tasks]`` to a share of their mean, and to what can be divided by.

    Args:
        values: At least zero.
        floor: Smallest value that counts, as a share of the mean.
    """
    smallest = (floor * values.mean()).clamp(min=torch.finfo(values.dtype).tiny)
    return values.clamp(min=smallest)
