"""One balanced optimisation step of a network that several tasks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.jacobian import Jacobian, empty_rows, factored_jacobian
from mtrl_ntk.balancing.kernels import largest_eigenvalues
from mtrl_ntk.balancing.tape import Tape
from mtrl_ntk.balancing.weighting import Statistics, Weighting

Differentiate = Callable[[Tape, Tensor, Tensor], Jacobian]
"""Makes the Jacobian from a tape, the sample losses ``[tasks, batch]`` and memory for its rows."""


class BalancedStep(NamedTuple):
    """What happened in one balanced step; ``[tasks]`` each, but the last two are scalars."""

    losses: Tensor
    """Mean loss of each task."""
    weights: Tensor
    """Weight that each task's loss was given."""
    eigenvalues: Tensor
    """Largest eigenvalue of each task's tangent kernel."""
    skipped: Tensor
    """One where the task's gradient or weight was not finite and took no part, else zero."""
    gradient_norm: Tensor
    """Norm of the combined gradient before clipping."""
    minimum_cosine: Tensor | None
    """Smallest cosine between two tasks' gradients, if it was asked for."""


class Balancer:
    """Turns per-sample losses into one weighted step of a network's optimiser.

    Args:
        parameters: The network's parameters, all of them shared by the tasks, in the order in which
            its forward pass calls the layers.
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
        differentiate: Differentiate = factored_jacobian,
    ) -> None:
        self.parameters = parameters
        self.weighting = weighting
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.differentiate = differentiate
        self._rows = empty_rows(parameters, weighting.num_tasks, weighting.num_minibatches)
        # One vector holds all gradients, so that they are combined, clipped and measured as one.
        self._gradient = torch.zeros_like(nn.utils.parameters_to_vector(parameters).detach())
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, gradient in zip(parameters, self._gradient.split(sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def step(self, tape: Tape, sample_losses: Tensor, *, diagnose: bool = False) -> BalancedStep:
        """Balances the tasks' gradients and takes one optimiser step.

        Args:
            tape: Tape of the forward pass that led to the losses.
            sample_losses: Loss of every row, ``[tasks, batch]``.
            diagnose: Also compute the gradients' cosines.

        Raises:
            ValueError: If the tape does not hold exactly the network's parameters, in their order.
        """
        self._check(tape)
        jacobian = self.differentiate(tape, sample_losses, self._rows)
        losses = sample_losses.detach().mean(1)
        with torch.no_grad():
            weights = self.weighting.weigh(Statistics(jacobian, _finite_losses(losses)))
            skipped = ~(jacobian.finite & weights.isfinite())
            weights = weights.masked_fill(skipped, 0.0)
            gradient, gradient_norm = self._clip(jacobian.combine(weights))
            self._gradient.copy_(gradient)
        self.optimizer.step()
        return BalancedStep(
            losses=losses,
            weights=weights,
            eigenvalues=largest_eigenvalues(jacobian.kernels()),
            skipped=skipped.to(losses.dtype),
            gradient_norm=gradient_norm,
            minimum_cosine=_minimum_cosine(jacobian) if diagnose else None,
        )

    def _check(self, tape: Tape) -> None:
        recorded = tape.parameters
        if len(recorded) != len(self.parameters) or any(
            one is not other for one, other in zip(recorded, self.parameters, strict=True)
        ):
            raise ValueError(
                f"the tape holds {len({id(p) for p in recorded})} parameters in {len(recorded)} "
                f"places, the network has {len(self.parameters)}: apply each layer through the "
                "tape, once, in the order of the network's parameters"
            )

    def _clip(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the gradient, shortened where it is too long, and its norm before."""
        norm = torch.linalg.vector_norm(gradient)
        if self.max_grad_norm > 0:
            gradient = gradient * (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        return gradient, norm


def _finite_losses(losses: Tensor) -> Tensor:
    """Puts the finite losses' mean in place of those that are not finite."""
    finite = losses.isfinite()
    mean = losses.masked_fill(~finite, 0.0).sum() / finite.sum().clamp(min=1)
    return torch.where(finite, losses, mean)


def _minimum_cosine(jacobian: Jacobian) -> Tensor:
    """Smallest cosine between two tasks' gradients; zero gradients are orthogonal to all."""
    gramian = jacobian.gramian()
    norms = gramian.diagonal().sqrt()
    scale = norms[:, None] * norms
    cosines = (gramian / scale).masked_fill(scale <= 0, 0.0)
    return cosines.fill_diagonal_(1.0).min()
