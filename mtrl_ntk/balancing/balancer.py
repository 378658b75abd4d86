"""One balanced optimisation step of a network whose layers are applied through a tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.check import check_gradients
from mtrl_ntk.balancing.distributed import num_processes
from mtrl_ntk.balancing.factors import parameters_of
from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.forget import forget_tasks
from mtrl_ntk.balancing.jacobian import Jacobian, Request, Workspace, factored_jacobian
from mtrl_ntk.balancing.layers import split_parameters
from mtrl_ntk.balancing.loss_graph import LossGraph, at_least_float32
from mtrl_ntk.balancing.tape import Tape
from mtrl_ntk.balancing.weighing import (
    BalancedStep,
    eigenvalues_of,
    minimum_cosine,
    observe,
    weigh,
)
from mtrl_ntk.balancing.weighting import Weighting, check_method
from mtrl_ntk.settings import check_kind, check_number

Differentiate = Callable[[Tape, Tensor, Request, Workspace, Tensor | None], Jacobian]
"""Makes a Jacobian, as :func:`factored_jacobian` does."""


class Optimizer(Protocol):
    """What moves parameters along their gradients: any optimiser of torch, for one."""

    def step(self) -> object:
        """Moves the parameters."""


class Balancer:
    """Turns per-sample losses into one weighted step of a network's optimiser.

    This is :class:`~mtrl_ntk.balancing.TaskBalancer` for networks that apply their layers through a
    tape, with clipping and the optimiser's step in it. A step *sets* the gradients of the network's
    trainable parameters; what was there before does not count.

    The tasks' gradients in the shared parameters are weighted. Parameters of the tasks' own follow
    their task's unweighted share in the mean loss. A network that shares nothing is as many
    networks as there are tasks: each descends its own loss and is clipped by itself.

    Args:
        network: The network, whose forward pass calls its layers in the order of its parameters.
        weighting: The balancing method.
        optimizer: Optimiser of the network's parameters.
        max_grad_norm: Norm to which the combined gradient is clipped; 0 turns clipping off.
        differentiate: How gradients are taken; tests and benchmarks pass a reference.
        check: Compare the first step's gradients with those of plain autograd; and, on the CPU,
            refuse negative losses where the method needs them positive.
    """

    def __init__(
        self,
        network: nn.Module,
        weighting: Weighting,
        optimizer: Optimizer,
        max_grad_norm: float = 0.0,
        differentiate: Differentiate = factored_jacobian,
        *,
        check: bool = True,
    ) -> None:
        check_kind("network", network, nn.Module, "a module")
        check_method(weighting)
        check_number("max_grad_norm", max_grad_norm, at_least=0)
        if num_processes() > 1:
            raise ValueError("a Balancer knows no other processes; TaskBalancer averages over them")
        self.network = network
        self.weighting = weighting
        self.optimizer = optimizer
        self._found_inf: Tensor | None = getattr(optimizer, "found_inf", None)
        self.max_grad_norm = max_grad_norm
        self.differentiate = differentiate
        self.shared, self.task_specific = split_parameters(network)
        if not self.shared and weighting.balances:
            raise ValueError(
                "the network shares nothing between tasks, so there is no balancing it"
            )
        _check_optimizer(optimizer, [*self.shared, *self.task_specific])
        self._checks_next = self._checks_losses = check
        self._workspace = Workspace()
        self._memory = _GradientMemory(self.shared, self.task_specific)
        weighting.fit(sum(parameter.numel() for parameter in self.shared))

    @property
    def nbytes(self) -> int:
        """Memory of the gradients, those of each task included once there was a step; in bytes."""
        return self._workspace.nbytes + self._memory.nbytes

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
            ValueError: If the tape does not hold exactly the network's trainable parameters, in
                their order; if the losses are not those of the method's tasks; if a method that
                observes the step has nothing to see; or if the first step's gradients are not
                those of autograd.
        """
        weighting = self.weighting
        self._check_arguments(sample_losses, reevaluate)
        if not torch.compiler.is_compiling():
            self._memory.attach()
        self._check(tape)
        jacobian = self._jacobian(tape, sample_losses, outputs)
        losses = sample_losses.detach().to(at_least_float32(sample_losses)).mean(1)
        # Elsewhere the host would wait for the device.
        if (
            self._checks_losses
            and losses.device.type == "cpu"
            and not torch.compiler.is_compiling()
        ):
            weighting.check_losses(losses)
        with torch.no_grad():
            weights, skipped, gradient, kernels = weigh(weighting, jacobian, losses, noise)
            gradient_norm = self._write_gradients(jacobian, gradient)
            is_lost = self._leave_out_what_is_lost(gradient_norm, skipped)
            skipped = skipped | is_lost
            eigenvalues = eigenvalues_of(weighting, kernels)
        # Others than those with ``found_inf`` would move by their momentum.
        if self._found_inf is not None or torch.compiler.is_compiling() or not is_lost:
            self.optimizer.step()
        if reevaluate is not None and weighting.observes_step:
            with torch.no_grad():
                observe(weighting, reevaluate().mean(1))
        return BalancedStep(
            losses=losses,
            weights=weights,
            eigenvalues=eigenvalues,
            skipped=skipped.to(losses.dtype),
            gradient_norm=gradient_norm,
            minimum_cosine=minimum_cosine(jacobian) if diagnose else None,
            residual=weighting.residual,
        )

    def _check_arguments(
        self, sample_losses: Tensor, reevaluate: Callable[[], Tensor] | None
    ) -> None:
        num_tasks = self.weighting.num_tasks
        if sample_losses.ndim != 2 or len(sample_losses) != num_tasks:
            raise ValueError(
                f"losses of shape {list(sample_losses.shape)} are not [tasks, rows] of the "
                f"{num_tasks} tasks that the method was made for"
            )
        if self.weighting.observes_step and reevaluate is None:
            raise ValueError(
                f"{type(self.weighting).__name__} learns from the losses after each step: pass "
                "reevaluate, which computes them again"
            )

    def check_next_step(self) -> None:
        """Lets the next step's gradients be compared with those of plain autograd."""
        self._checks_next = True

    def _check(self, tape: Tape) -> None:
        recorded = parameters_of(tape.factors)
        parameters = [p for p in (*self.shared, *self.task_specific) if p.requires_grad]
        if len({id(parameter) for parameter in parameters}) < len(parameters):
            raise ValueError(
                "layers of the network have a parameter in common, which a tape cannot record; "
                "TaskBalancer balances any network"
            )
        if len(recorded) != len(parameters) or any(
            one is not other for one, other in zip(recorded, parameters, strict=True)
        ):
            raise ValueError(
                f"the tape holds {len({id(p) for p in recorded})} parameters in {len(recorded)} "
                f"places, the network has {len(parameters)}: apply each layer through the "
                "tape, once, in the order of the network's parameters"
            )

    def _jacobian(self, tape: Tape, sample_losses: Tensor, outputs: Tensor | None) -> Jacobian:
        checks = self._checks_next and not torch.compiler.is_compiling()
        request = replace(self.weighting.request, keep_graph=checks)
        jacobian = self.differentiate(tape, sample_losses, request, self._workspace, outputs)
        if checks:
            graph = LossGraph(sample_losses, len(sample_losses), request.num_minibatches)
            shared, own = parameters_of(tape.shared), parameters_of(tape.task_specific)
            self._checks_next = not check_gradients(
                self.network, graph.combine, jacobian, shared, tape.precision, own
            )
        return jacobian

    def _write_gradients(self, jacobian: Jacobian, shared: Tensor) -> Tensor:
        """Fills the parameters' gradients, clipped, and returns their norm before clipping."""
        norm: Tensor = torch.linalg.vector_norm(shared)
        if self.task_specific:
            norm = self._write_own_gradients(jacobian.own_gradients(), norm)
        self._memory.write(shared, self._clip_coefficient(norm))
        return norm

    def _write_own_gradients(self, own: Tensor, shared_norm: Tensor) -> Tensor:
        """Fills those of the tasks' own parameters; returns the norm of all gradients."""
        # Without anything shared there is no mean over tasks, only each task's loss.
        own_share = 1 / len(own) if self.shared else 1.0
        own_norms = own_share * torch.linalg.vector_norm(own, dim=1)
        norm = torch.hypot(shared_norm, torch.linalg.vector_norm(own_norms))
        factors = own_share * self._clip_coefficient(norm if self.shared else own_norms)
        self._memory.write_own(own, factors)
        return norm

    def _leave_out_what_is_lost(self, norm: Tensor, skipped: Tensor) -> Tensor:
        """Makes the step none if no task takes part, or if it overflows; returns whether it is.

        A zero gradient alone would still move an optimiser with momentum.
        """
        # Second moments are squares of gradients.
        is_lost = skipped.all() | ~is_finite(norm.square())
        self._memory.clear_if(is_lost)
        if self._found_inf is not None:
            self._found_inf.copy_(is_lost)
        return is_lost

    def _clip_coefficient(self, norm: Tensor) -> Tensor:
        """Factor by which ``clip_grad_norm_`` shortens a gradient of a norm."""
        if self.max_grad_norm > 0:
            return (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        return torch.ones_like(norm)


class _GradientMemory:
    """The gradients of a network, those of what is shared as one vector to be clipped as one.

    Parameters get it as their ``.grad`` before each step, as others may take it away: an optimiser
    that sets gradients to None, another balancer, or a change of the network's type.
    """

    def __init__(
        self, shared: Sequence[nn.Parameter], task_specific: Sequence[nn.Parameter]
    ) -> None:
        self._shared, self._task_specific = shared, task_specific
        self._lay_out()
        self.attach()

    @property
    def nbytes(self) -> int:
        """Memory of all gradients, in bytes."""
        return self._vector.nbytes + sum(gradient.nbytes for _, gradient in self._own)

    def attach(self) -> None:
        """Lets the trainable parameters have this memory as their gradients, and no others."""
        if self._layout != self._present_layout():
            self._lay_out()
        for parameter, gradient in (*self._views, *self._own):
            if parameter.grad is not gradient:
                parameter.grad = gradient
        for parameter in self._frozen:
            parameter.grad = None

    def write(self, gradient: Tensor, factor: Tensor) -> None:
        """Writes the shared parameters' gradient, ``[entries]``, times a factor."""
        torch.mul(gradient, factor, out=self._vector)
        for view, part in self._in_other_precision:
            view.copy_(part)

    def write_own(self, gradients: Tensor, factors: Tensor) -> None:
        """Writes the tasks' own gradients, ``[tasks, entries]``, times one factor or one each."""
        sizes = [parameter[0].numel() for parameter, _ in self._own]
        for (parameter, memory), part in zip(self._own, gradients.split(sizes, 1), strict=True):
            by_task = factors.view(-1, *[1] * (parameter.ndim - 1))
            torch.mul(part.view_as(parameter), by_task, out=memory)

    def clear_if(self, condition: Tensor) -> None:
        """Makes all gradients zero if a condition on the device holds."""
        others = (view for view, _ in self._in_other_precision)
        for gradient in (self._vector, *others, *(gradient for _, gradient in self._own)):
            forget_tasks(gradient[None], condition[None])

    def _present_layout(self) -> list[tuple[bool, torch.dtype, torch.device]]:
        parameters = (*self._shared, *self._task_specific)
        return [(p.requires_grad, p.dtype, p.device) for p in parameters]

    def _lay_out(self) -> None:
        self._layout = self._present_layout()
        shared = [parameter for parameter in self._shared if parameter.requires_grad]
        own = [parameter for parameter in self._task_specific if parameter.requires_grad]
        self._frozen = [p for p in (*self._shared, *self._task_specific) if not p.requires_grad]
        like = (*shared, *own, *self._frozen)[0]
        sizes = [parameter.numel() for parameter in shared]
        self._vector = like.new_zeros(sum(sizes), dtype=at_least_float32(*(shared or own)))
        parts = [p.view_as(s) for s, p in zip(shared, self._vector.split(sizes), strict=True)]
        self._views = [
            (parameter, part if part.dtype == parameter.dtype else torch.zeros_like(parameter))
            for parameter, part in zip(shared, parts, strict=True)
        ]
        self._in_other_precision = [
            (view, part)
            for (_, view), part in zip(self._views, parts, strict=True)
            if view is not part
        ]
        self._own = [(parameter, torch.zeros_like(parameter)) for parameter in own]


def _check_optimizer(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError(
            "LBFGS evaluates losses within its step: call TaskBalancer.backward in its closure"
        )
    if isinstance(optimizer, torch.optim.Optimizer):
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if moved.isdisjoint(id(parameter) for parameter in parameters):
            raise ValueError("the optimiser has none of the network's parameters")
