"""The losses of Soft Actor-Critic, one number per transition and never reduced over tasks.

See Haarnoja et al., *Soft Actor-Critic Algorithms and Applications*, arXiv 1812.05905.
"""

from __future__ import annotations

import torch
from torch import Tensor


def discounts(terminated: Tensor, gamma_powers: Tensor) -> Tensor:
    """What the value of the next observation counts in a return; nothing after a termination.

    Only termination ends the bootstrap; a truncated episode would have gone on.

    Args:
        terminated: As in a batch, ``[tasks, batch]``.
        gamma_powers: Zero, and the discount factor to the power of 1, 2, ...

    Returns:
        ``[tasks, batch]``.
    """
    # What is not finite has no index, and may not come out as a number.
    steps = (1 - terminated).long().clamp(0, len(gamma_powers) - 1)
    return gamma_powers[steps] + 0 * terminated


def td_target(
    rewards: Tensor,
    discounts: Tensor,
    next_values: Tensor,
    next_log_probs: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Soft return that the critic regresses to; only the bootstrap counts entropy.

    Args:
        rewards: Of one step or the discounted sum of several, ``[tasks, batch]``.
        discounts: What the next value counts, ``[tasks, batch]``.
        next_values: Target critic's values of the next actions, ``[tasks, batch]``.
        next_log_probs: Log-densities of the next actions, ``[tasks, batch]``.
        temperature: One per task, ``[tasks]``.

    Returns:
        ``[tasks, batch]``.
    """
    soft_values = next_values - temperature[:, None] * next_log_probs
    return rewards + discounts * soft_values


def actor_loss(values: Tensor, log_probs: Tensor, temperature: Tensor) -> Tensor:
    """Negative soft value of the policy's actions.

    Args:
        values: Critic's values of the actions, ``[tasks, batch]``.
        log_probs: Log-densities of the actions, ``[tasks, batch]``.
        temperature: One per task, without gradient, ``[tasks]``.

    Returns:
        ``[tasks, batch]``; negative once the values are positive.
    """
    return temperature[:, None] * log_probs - values


def temperature_loss(
    log_alpha: Tensor, log_probs: Tensor, target_entropy: float | Tensor
) -> Tensor:
    """Raises a task's temperature while its policy's entropy is below the target.

    Taken on the logarithm, so that a step's relative size does not depend on the temperature.

    Args:
        log_alpha: One per task, ``[tasks]``.
        log_probs: Log-densities of the policy's actions, without gradient, ``[tasks, batch]``.
        target_entropy: In nats.

    Returns:
        ``[tasks]``.
    """
    return -log_alpha * (log_probs + target_entropy).mean(1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy of each task's policy, estimated from log-densities ``[tasks, batch]``."""
    return -torch.mean(log_probs, dim=1)
