"""From the tasks' losses and gradients to weights and to the gradient to descend along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.kernels import largest_eigenvalues
from mtrl_ntk.balancing.weighting import Statistics, Weighting
from mtrl_ntk.settings import check_kind, check_number

Preferences = Sequence[float] | Tensor
"""What each of the tasks should count, relative to the others."""


class BalancedStep(NamedTuple):
    """What happened in one balanced step; ``[tasks]`` each, but the last three are scalars."""

    losses: Tensor
    """Mean loss of each task."""
    weights: Tensor
    """Weight that each task's loss was given."""
    eigenvalues: Tensor
    """Largest eigenvalue of each task's tangent kernel; NaN where no gradients were taken."""
    skipped: Tensor
    """One where the task took no part as something of it was not finite, else zero.

    If no task takes part, or the combined gradient overflows, the gradient is zero.
    """
    gradient_norm: Tensor
    """Norm of the combined gradient before clipping."""
    minimum_cosine: Tensor | None
    """Smallest cosine between two tasks' gradients, if it was asked for."""
    residual: Tensor | None
    """How far the weights are from the equations that define them, if the method solves any."""


class Weighed(NamedTuple):
    """What a method says of one step."""

    weights: Tensor
    """Weight of each task, zero where it is skipped, ``[tasks]``."""
    skipped: Tensor
    """Which tasks take no part, bool ``[tasks]``."""
    gradient: Tensor
    """Combined gradient of the shared parameters, in the order of the Jacobian's columns."""
    kernels: Tensor
    """Kernels of the method's source, ``[tasks, n, n]``."""


def weigh(
    weighting: Weighting,
    jacobian: Jacobian,
    losses: Tensor,
    noise: Tensor | None = None,
    preferences: Tensor | None = None,
) -> Weighed:
    """Asks a method for the tasks' weights and combines their gradients.

    Args:
        weighting: The balancing method.
        jacobian: The tasks' gradients.
        losses: Mean loss of each task, ``[tasks]``.
        noise: Standard normal numbers of the shape that the method asks for; drawn from the
            global stream when left out.
        preferences: What each task should count, ``[tasks]``, of mean one.
    """
    kernels = weighting.kernels(jacobian)
    noise = noise_for(weighting, noise, losses)
    if weighting.positive_losses:
        # Off the CPU nobody has looked: such a task counts as a broken one.
        usable = weighting.can_do_with(losses)
        jacobian.finite = jacobian.finite & usable
        losses = losses.masked_fill(~usable, torch.nan)
    weights = preferred(weighting, Statistics(jacobian, losses, kernels, noise, preferences))
    skipped = ~(jacobian.finite & is_finite(weights))
    weights = weights.masked_fill(skipped, 0.0)
    return Weighed(weights, skipped, weighting.combine(jacobian, weights), kernels)


def noise_for(weighting: Weighting, noise: Tensor | None, like: Tensor) -> Tensor:
    """Random numbers of the shape that a method asks for: those given, or drawn in a type."""
    if noise is None:
        return like.new_empty(weighting.noise_shape).normal_()
    check_kind("noise", noise, Tensor, "a tensor")
    if noise.shape != weighting.noise_shape:
        raise ValueError(
            f"noise is {list(noise.shape)}; {type(weighting).__name__} takes "
            f"{list(weighting.noise_shape)}"
        )
    return noise


def as_preferences(preferences: Preferences | None, num_tasks: int) -> Tensor | None:
    """What each task should count, ``[tasks]``, brought to a mean of one."""
    if preferences is None:
        return None
    check_kind("preferences", preferences, (Tensor, Sequence), f"{num_tasks} numbers above 0")
    numbers = preferences.tolist() if isinstance(preferences, Tensor) else list(preferences)
    if len(numbers) != num_tasks:
        raise ValueError(f"preferences are {numbers}; they must be {num_tasks} numbers above 0")
    for number in numbers:
        check_number("a preference", number, above=0)
    given = torch.tensor(numbers, dtype=torch.float64)
    return given / given.mean()


def preferred(weighting: Weighting, statistics: Statistics) -> Tensor:
    """Weights ``[tasks]`` that a method gives to tasks that should not all count as much."""
    weights = weighting.weigh(statistics)
    if statistics.preferences is None or weighting.knows_preferences:
        return weights
    return weights * statistics.preferences


def observe(weighting: Weighting, task_losses: Tensor) -> None:
    """Shows a method the losses ``[tasks]`` after a step; those that it cannot use are NaN."""
    weighting.observe(task_losses.masked_fill(~weighting.can_do_with(task_losses), torch.nan))


def eigenvalues_of(weighting: Weighting, kernels: Tensor) -> Tensor:
    """Largest eigenvalue of each kernel that a method was given; it may know them already."""
    known = weighting.eigenvalues
    return largest_eigenvalues(kernels) if known is None else known


def minimum_cosine(jacobian: Jacobian) -> Tensor:
    """Smallest cosine between two tasks' gradients; zero gradients are orthogonal to all."""
    gramian = jacobian.gramian()
    norms = gramian.diagonal().sqrt()
    scale = norms[:, None] * norms
    cosines = (gramian / scale).masked_fill(scale <= 0, 0.0)
    return cosines.fill_diagonal_(1.0).min()
