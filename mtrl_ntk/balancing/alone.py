"""Balancing methods alone: on a Gramian or on a matrix of gradients that come from anywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.loss_graph import at_least_float32
from mtrl_ntk.balancing.weighing import Preferences, as_preferences, noise_for, preferred
from mtrl_ntk.balancing.weighting import LossWeighting, Statistics, Weighting, check_method
from mtrl_ntk.settings import check_kind


class _GramianOnly(Jacobian):
    """Gradients of which inner products are all that is known."""

    def __init__(self, gramian: Tensor) -> None:
        super().__init__(gramian.diagonal().clamp(min=0.0).sqrt()[:, None, None])
        self._known = gramian

    def gramian(self) -> Tensor:
        """See the base class."""
        broken = ~self.finite
        return self._known.masked_fill(broken[:, None] | broken, 0.0)

    def rows(self) -> Tensor:
        """See the base class.

        Raises:
            ValueError: There are none.
        """
        raise ValueError("the method needs the gradients themselves: call weights_of_rows")


@torch.no_grad()
def weights_of_gramian(
    weighting: Weighting,
    gramian: Tensor,
    losses: Tensor | None = None,
    noise: Tensor | None = None,
    preferences: Preferences | None = None,
) -> Tensor:
    """Weights ``[tasks]`` that a method gives to gradients of which it sees inner products only.

    The step is the mean over tasks of weight times gradient.

    Args:
        weighting: The method; one with a state moves on.
        gramian: Inner products of the tasks' gradients, ``[tasks, tasks]``.
        losses: Losses ``[tasks]``, for methods that look at them.
        noise: As the method's ``noise_shape`` asks for; drawn when left out.
        preferences: What each task should count, as for :class:`TaskBalancer`.

    Raises:
        ValueError: The shapes are not those of the method's tasks, the method needs more than
            inner products, or losses that it was not given.
    """
    check_method(weighting)
    check_kind("the Gramian", gramian, Tensor, "a tensor")
    tasks = weighting.num_tasks
    if gramian.shape != (tasks, tasks):
        raise ValueError(f"the Gramian is {list(gramian.shape)}; it must be [{tasks}, {tasks}]")
    if weighting.num_minibatches != 1:
        _refuse_rows(weighting, 1)
    given = _precise(gramian)
    # Elsewhere the host would wait for the device.
    if given.device.type == "cpu" and not _is_symmetric(given):
        raise ValueError("the Gramian is not symmetric; it must be the products of all pairs")
    jacobian = _GramianOnly(given)
    return preferred(weighting, _statistics(weighting, jacobian, losses, noise, preferences))


@torch.no_grad()
def weights_of_rows(
    weighting: Weighting,
    rows: Tensor,
    losses: Tensor | None = None,
    noise: Tensor | None = None,
    preferences: Preferences | None = None,
) -> Tensor:
    """Weights ``[tasks]`` that a method gives to gradients.

    Args:
        weighting: The method; one with a state moves on.
        rows: The tasks' gradients, ``[tasks, parameters]``, or for methods that ask for n
            mini-batches those of their losses, ``[tasks, n, parameters]``.
        losses: Losses ``[tasks]``, for methods that look at them.
        noise: As the method's ``noise_shape`` asks for; drawn when left out.
        preferences: What each task should count, as for :class:`TaskBalancer`.

    Raises:
        ValueError: As :func:`weights_of_gramian` does.
    """
    return _weigh_rows(weighting, rows, losses, noise, preferences)[0]


@torch.no_grad()
def aggregate(
    weighting: Weighting,
    rows: Tensor,
    losses: Tensor | None = None,
    noise: Tensor | None = None,
    preferences: Preferences | None = None,
) -> Tensor:
    """Gradient ``[parameters]`` along which a method descends, of what :func:`weights_of_rows` has.

    For most methods it is the mean over tasks of weight times gradient; a task that is not finite
    has no part in it.
    """
    weights, jacobian = _weigh_rows(weighting, rows, losses, noise, preferences)
    combined = weighting.combine(jacobian, weights.masked_fill(~jacobian.finite, 0.0))
    return combined.to(rows.dtype)


def _weigh_rows(
    weighting: Weighting,
    rows: Tensor,
    losses: Tensor | None,
    noise: Tensor | None,
    preferences: Preferences | None,
) -> tuple[Tensor, Jacobian]:
    check_method(weighting)
    check_kind("the gradients", rows, Tensor, "a tensor")
    if rows.ndim not in (2, 3) or len(rows) != weighting.num_tasks:
        raise ValueError(
            f"the gradients are {list(rows.shape)}; they must be [{weighting.num_tasks}, "
            f"parameters] or [{weighting.num_tasks}, mini-batches, parameters]"
        )
    rows = rows[:, None] if rows.ndim == 2 else rows
    if rows.shape[1] != weighting.num_minibatches:
        _refuse_rows(weighting, rows.shape[1])
    weighting.fit(rows.shape[2])
    jacobian = Jacobian(_precise(rows).clone())  # which takes its rows over
    statistics = _statistics(weighting, jacobian, losses, noise, preferences)
    return preferred(weighting, statistics), jacobian


def _refuse_rows(weighting: Weighting, num_rows: int) -> None:
    raise ValueError(
        f"{type(weighting).__name__} asks for {weighting.num_minibatches} rows per task, not "
        f"{num_rows}: give gradients [tasks, {weighting.num_minibatches}, parameters]"
    )


def _precise(numbers: Tensor) -> Tensor:
    return numbers.detach().to(at_least_float32(numbers))


def _is_symmetric(gramian: Tensor) -> bool:
    known = gramian.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    tolerance = torch.finfo(gramian.dtype).eps ** 0.5 * known.abs().max()
    return bool(((known - known.mT).abs() <= tolerance).all())


def _statistics(
    weighting: Weighting,
    jacobian: Jacobian,
    losses: Tensor | None,
    noise: Tensor | None,
    preferences: Preferences | None,
) -> Statistics:
    if weighting.kernel_source != "loss":
        raise ValueError(
            f"{type(weighting).__name__} asks for kernels of the {weighting.kernel_source}, which "
            "gradients do not tell: use TaskBalancer, or a Balancer with a tape"
        )
    like = jacobian.squared_norms()
    needs_losses = weighting.positive_losses or isinstance(weighting, LossWeighting)
    if losses is None and needs_losses:
        raise ValueError(f"{type(weighting).__name__} looks at the losses: give them as well")
    if losses is not None:
        check_kind("losses", losses, Tensor, "a tensor")
    if losses is not None and losses.shape != like.shape:
        raise ValueError(f"the losses are {list(losses.shape)}; they must be {list(like.shape)}")
    task_losses = torch.zeros_like(like) if losses is None else losses.detach().to(like)
    weighting.check_losses(task_losses)
    counts = as_preferences(preferences, weighting.num_tasks)
    return Statistics(
        jacobian,
        task_losses,
        weighting.kernels(jacobian),
        noise_for(weighting, noise, like),
        None if counts is None else counts.to(like),
    )
