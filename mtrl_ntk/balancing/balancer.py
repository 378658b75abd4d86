"""One balanced optimisation step of a network that several tasks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.jacobian import FactoredJacobian, Jacobian
from mtrl_ntk.balancing.kernels import largest_eigenvalues
from mtrl_ntk.balancing.tape import Tape
from mtrl_ntk.balancing.weighting import Weighting

Differentiate = Callable[[Tape, Tensor, int], Jacobian]
"""Makes the Jacobian from a tape, the sample losses ``[tasks, batch]`` and the mini-batch count."""


class BalancedStep(NamedTuple):
    """What happened in one balanced step; everything is ``[tasks]`` but the last two scalars."""

    losses: Tensor
    """Mean loss of each task."""
    weights: Tensor
    """Weight that each task's loss was given."""
    eigenvalues: Tensor
    """Largest eigenvalue of each task's tangent kernel."""
    skipped: Tensor
    """One where the task's gradient was not finite and took no part, else zero."""
    gradient_norm: Tensor
    """Norm of the combined gradient before clipping."""
    minimum_cosine: Tensor
    """Smallest cosine between two tasks' gradients; NaN unless it was asked for."""


class Balancer:
    """Turns per-sample losses into one weighted step of a network's optimiser.

    Args:
        parameters: The network's parameters, all of them shared by the tasks.
        weighting: The balancing method.
        optimizer: Optimiser of exactly these parameters.
        max_grad_norm: Norm to which the combined gradient is clipped; 0 turns clipping off.
        differentiate: How gradients are taken; tests and benchmarks pass a reference.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        weighting: Weighting,
        optimizer: torch.optim.Optimizer,
        max_grad_norm: float = 0.0,
        differentiate: Differentiate = FactoredJacobian,
    ) -> None:
        self.parameters = parameters
        self.weighting = weighting
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.differentiate = differentiate

    def step(self, tape: Tape, sample_losses: Tensor, *, diagnose: bool = False) -> BalancedStep:
        """Balances the tasks' gradients and takes one optimiser step.

        Args:
            tape: Tape of the forward pass that led to the losses.
            sample_losses: Loss of every row, ``[tasks, batch]``.
            diagnose: Also compute the gradients' cosines.

        Raises:
            ValueError: If the tape does not hold each of the network's parameters exactly once.
        """
        self._check(tape)
        jacobian = self.differentiate(tape, sample_losses, self.weighting.num_minibatches)
        with torch.no_grad():
            losses = sample_losses.mean(1)
            weights = self.weighting.weigh(jacobian, _finite_losses(losses))
            weights = torch.where(jacobian.finite, weights, 0.0)
            self._assign(tape, jacobian.combine(weights))
            gradient_norm = self._clip()
        self.optimizer.step()
        return BalancedStep(
            losses=losses,
            weights=weights,
            eigenvalues=largest_eigenvalues(jacobian.kernels()),
            skipped=(~jacobian.finite).to(losses.dtype),
            gradient_norm=gradient_norm,
            minimum_cosine=_minimum_cosine(jacobian) if diagnose else losses.new_tensor(torch.nan),
        )

    def _check(self, tape: Tape) -> None:
        recorded = [id(parameter) for parameter in tape.parameters]
        if sorted(recorded) != sorted(id(parameter) for parameter in self.parameters):
            raise ValueError(
                f"the tape holds {len(set(recorded))} parameters in {len(recorded)} places, the "
                f"network has {len(self.parameters)}: apply each layer through the tape, once"
            )

    def _assign(self, tape: Tape, gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(tape.parameters, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)

    def _clip(self) -> Tensor:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.max_grad_norm > 0:
            nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm)
        return norm


def _finite_losses(losses: Tensor) -> Tensor:
    """Puts the finite losses' mean in place of those that are not finite."""
    finite = losses.isfinite()
    mean = torch.where(finite, losses, 0.0).sum() / finite.sum().clamp(min=1)
    return torch.where(finite, losses, mean)


def _minimum_cosine(jacobian: Jacobian) -> Tensor:
    """Smallest cosine between two tasks' gradients; zero gradients are orthogonal to all."""
    gramian = jacobian.gramian()
    norms = gramian.diagonal().sqrt()
    scale = norms[:, None] * norms
    cosines = torch.where(scale > 0, gramian / scale, 0.0)
    return cosines.fill_diagonal_(1.0).min()
