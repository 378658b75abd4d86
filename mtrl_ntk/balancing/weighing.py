"""From the tasks' losses and gradients to weights and to the gradient to descend along."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.kernels import largest_eigenvalues
from mtrl_ntk.balancing.weighting import Statistics, Weighting


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
        preferences: Factor on each task's weight, ``[tasks]``.
    """
    kernels = weighting.kernels(jacobian)
    if noise is None:
        noise = torch.randn(weighting.noise_shape, dtype=losses.dtype, device=losses.device)
    weights = weighting.weigh(Statistics(jacobian, losses, kernels, noise))
    if preferences is not None:
        weights = weights * preferences
    skipped = ~(jacobian.finite & is_finite(weights))
    weights = weights.masked_fill(skipped, 0.0)
    return Weighed(weights, skipped, weighting.combine(jacobian, weights), kernels)


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
