"""One balanced optimisation step of a network that several tasks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.factors import parameters_of
from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.jacobian import Jacobian, Request, Workspace, factored_jacobian
from mtrl_ntk.balancing.kernels import largest_eigenvalues
from mtrl_ntk.balancing.layers import split_parameters
from mtrl_ntk.balancing.tape import Tape
from mtrl_ntk.balancing.weighting import Statistics, Weighting

Differentiate = Callable[[Tape, Tensor, Request, Workspace, Tensor | None], Jacobian]
"""Makes a Jacobian, as :func:`factored_jacobian` does."""


class Optimizer(Protocol):
    """What moves parameters along their gradients: any optimiser of torch, for one."""

    def step(self) -> object:
        """Moves the parameters."""


class BalancedStep(NamedTuple):
    """What happened in one balanced step; ``[tasks]`` each, but the last two are scalars."""

    losses: Tensor
    """Mean loss of each task."""
    weights: Tensor
    """Weight that each task's loss was given."""
    eigenvalues: Tensor
    """Largest eigenvalue of each task's tangent kernel."""
    skipped: Tensor
    """One where the task took no part as something of it was not finite, else zero.

    If no task takes part, or the combined gradient overflows, the step changes nothing.
    """
    gradient_norm: Tensor
    """Norm of the combined gradient before clipping."""
    minimum_cosine: Tensor | None
    """Smallest cosine between two tasks' gradients, if it was asked for."""
    residual: Tensor | None
    """How far the weights are from the equations that define them, if the method solves any."""


class Balancer:
    """Turns per-sample losses into one weighted step of a network's optimiser.

    The tasks' gradients in the shared parameters are weighted. Parameters of the tasks' own follow
    their task's unweighted share in the mean loss. A network that shares nothing is as many
    networks as there are tasks: each descends its own loss and is clipped by itself.

    Args:
        network: The network, whose forward pass calls its layers in the order of its parameters.
        weighting: The balancing method.
        optimizer: Optimiser of exactly the network's parameters.
        max_grad_norm: Norm to which the combined gradient is clipped; 0 turns clipping off.
        differentiate: How gradients are taken; tests and benchmarks pass a reference.
    """

    def __init__(
        self,
        network: nn.Module,
        weighting: Weighting,
        optimizer: Optimizer,
        max_grad_norm: float = 0.0,
        differentiate: Differentiate = factored_jacobian,
    ) -> None:
        self.weighting = weighting
        self.optimizer = optimizer
        self._found_inf: Tensor | None = getattr(optimizer, "found_inf", None)
        self.max_grad_norm = max_grad_norm
        self.differentiate = differentiate
        self.shared, self.task_specific = split_parameters(network)
        self._workspace = Workspace()
        self._gradient = _gradient_vector(self.shared, like=next(network.parameters()))
        for parameter in self.task_specific:
            parameter.grad = torch.zeros_like(parameter)

    @property
    def nbytes(self) -> int:
        """Memory of the gradients, those of each task included once there was a step; in bytes."""
        own = sum(parameter.nbytes for parameter in self.task_specific)
        return self._workspace.nbytes + self._gradient.nbytes + own

    def step(
        self,
        tape: Tape,
        sample_losses: Tensor,
        *,
        outputs: Tensor | None = None,
        noise: Tensor | None = None,
        reevaluate: Callable[[], Tensor] | None = None,
        diagnose: bool = False,
    ) -> BalancedStep:
        """Balances the tasks' gradients and takes one optimiser step.

        Args:
            tape: Tape of the forward pass that led to the losses.
            sample_losses: Loss of every row, ``[tasks, batch]``.
            outputs: The network's outputs, ``[tasks, batch, outputs]``, for methods that ask for
                their kernels.
            noise: Standard normal numbers of the shape that the method asks for; drawn from the
                global stream when left out.
            reevaluate: Computes the sample losses again, for methods that observe the step.
            diagnose: Also compute the gradients' cosines.

        Raises:
            ValueError: If the tape does not hold exactly the network's parameters, in their order.
        """
        self._check(tape)
        weighting = self.weighting
        jacobian = self.differentiate(
            tape, sample_losses, weighting.request, self._workspace, outputs
        )
        losses = sample_losses.detach().mean(1)
        with torch.no_grad():
            kernels = weighting.kernels(jacobian)
            if noise is None:
                noise = torch.randn(weighting.noise_shape, dtype=losses.dtype, device=losses.device)
            statistics = Statistics(jacobian, losses, kernels, noise)
            weights = weighting.weigh(statistics)
            skipped = ~(jacobian.finite & is_finite(weights))
            weights = weights.masked_fill(skipped, 0.0)
            gradient_norm = self._write_gradients(jacobian, weights)
            skipped = skipped | self._leave_out_what_is_lost(gradient_norm, skipped)
            eigenvalues = weighting.eigenvalues
            if eigenvalues is None:
                eigenvalues = largest_eigenvalues(kernels)
        self.optimizer.step()
        if weighting.observes_step and reevaluate is not None:
            with torch.no_grad():
                weighting.observe(reevaluate().mean(1))
        return BalancedStep(
            losses=losses,
            weights=weights,
            eigenvalues=eigenvalues,
            skipped=skipped.to(losses.dtype),
            gradient_norm=gradient_norm,
            minimum_cosine=_minimum_cosine(jacobian) if diagnose else None,
            residual=weighting.residual,
        )

    def _check(self, tape: Tape) -> None:
        recorded = parameters_of(tape.factors)
        parameters = [*self.shared, *self.task_specific]
        if len(recorded) != len(parameters) or any(
            one is not other for one, other in zip(recorded, parameters, strict=True)
        ):
            raise ValueError(
                f"the tape holds {len({id(p) for p in recorded})} parameters in {len(recorded)} "
                f"places, the network has {len(parameters)}: apply each layer through the "
                "tape, once, in the order of the network's parameters"
            )

    def _write_gradients(self, jacobian: Jacobian, weights: Tensor) -> Tensor:
        """Fills the parameters' gradients, clipped, and returns their norm before clipping."""
        shared = self.weighting.combine(jacobian, weights)
        norm: Tensor = torch.linalg.vector_norm(shared)
        if self.task_specific:
            norm = self._write_own_gradients(jacobian.own_gradients(), norm)
        torch.mul(shared, self._clip_coefficient(norm), out=self._gradient)
        return norm

    def _write_own_gradients(self, own: Tensor, shared_norm: Tensor) -> Tensor:
        """Fills those of the tasks' own parameters; returns the norm of all gradients."""
        # Without anything shared there is no mean over tasks, only each task's loss.
        own_share = 1 / len(own) if self.shared else 1.0
        own_norms = own_share * torch.linalg.vector_norm(own, dim=1)
        norm = torch.hypot(shared_norm, torch.linalg.vector_norm(own_norms))
        factors = own_share * self._clip_coefficient(norm if self.shared else own_norms)
        sizes = [parameter[0].numel() for parameter in self.task_specific]
        for parameter, gradient in zip(self.task_specific, own.split(sizes, 1), strict=True):
            assert parameter.grad is not None
            by_task = factors.view(-1, *[1] * (parameter.ndim - 1))
            torch.mul(gradient.view_as(parameter), by_task, out=parameter.grad)
        return norm

    def _leave_out_what_is_lost(self, norm: Tensor, skipped: Tensor) -> Tensor:
        """Makes the step none if no task takes part, or if it overflows; returns whether it is.

        A zero gradient alone would still move an optimiser with momentum.
        """
        # Second moments are squares of gradients.
        is_lost = skipped.all() | ~is_finite(norm.square())
        self._gradient.masked_fill_(is_lost, 0.0)
        for parameter in self.task_specific:
            assert parameter.grad is not None
            parameter.grad.masked_fill_(is_lost, 0.0)
        if self._found_inf is not None:
            self._found_inf.copy_(is_lost)
        return is_lost

    def _clip_coefficient(self, norm: Tensor) -> Tensor:
        """Factor by which ``clip_grad_norm_`` shortens a gradient of a norm."""
        if self.max_grad_norm > 0:
            return (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        return torch.ones_like(norm)


def _gradient_vector(parameters: Sequence[nn.Parameter], like: Tensor) -> Tensor:
    """One vector that holds all gradients, so that they are combined and clipped as one."""
    sizes = [parameter.numel() for parameter in parameters]
    vector = like.new_zeros(sum(sizes))
    for parameter, gradient in zip(parameters, vector.split(sizes), strict=True):
        parameter.grad = gradient.view_as(parameter)
    return vector


def _minimum_cosine(jacobian: Jacobian) -> Tensor:
    """Smallest cosine between two tasks' gradients; zero gradients are orthogonal to all."""
    gramian = jacobian.gramian()
    norms = gramian.diagonal().sqrt()
    scale = norms[:, None] * norms
    cosines = (gramian / scale).masked_fill(scale <= 0, 0.0)
    return cosines.fill_diagonal_(1.0).min()
