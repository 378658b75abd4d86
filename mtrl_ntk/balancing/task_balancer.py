"""Balances the tasks of any network: from losses to weighted gradients in ``.grad``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.autograd_jacobian import AutogradJacobians
from mtrl_ntk.balancing.distributed import average, from_first
from mtrl_ntk.balancing.finite import is_finite
from mtrl_ntk.balancing.graph import leaves
from mtrl_ntk.balancing.loss_graph import (
    Columns,
    LossGraph,
    at_least_float32,
    combine,
)
from mtrl_ntk.balancing.losses import TaskLosses, minibatch_losses
from mtrl_ntk.balancing.parameters import Parameters, deliver, tensors_of
from mtrl_ntk.balancing.recording import Recording
from mtrl_ntk.balancing.weighing import (
    BalancedStep,
    Preferences,
    Weighed,
    as_preferences,
    eigenvalues_of,
    minimum_cosine,
    noise_for,
    observe,
    weigh,
)
from mtrl_ntk.balancing.weighting import Weighting, check_method
from mtrl_ntk.settings import check_kind, check_number


class TaskBalancer:
    r"""Takes the place of ``losses.mean().backward()`` for any network and any losses.

    :meth:`backward` adds the gradient of the balanced loss to the ``.grad`` of the parameters.
    Everything else stays as it is without balancing: optimisers and their closures, clipping,
    accumulation, schedules, hooks. With :math:`w` the weights that the method gives to k tasks,

    - what the tasks share gets the gradient of :math:`\frac1k \sum_i w_i L_i`, or whatever else
      the method descends along;
    - what belongs to one task gets that of :math:`\frac1k \sum_i L_i`: weights settle what tasks
      make of parameters that they share, and a head has its task alone. Published codes of gradient
      balancing do the same, that of NTKMTL among them, whereas its Algorithm 2 back-propagates the
      weighted loss into heads as well: ``weigh_own=True``.

    Under ``torch.distributed`` gradients, losses and noise are those of all processes together, so
    that weights and gradients are equal everywhere.

    Args:
        weighting: The balancing method, made for the number of tasks.
        shared: What the tasks share, as modules or parameters. What is frozen is left alone.
        own: What belongs to single tasks; it may lie within what was named as shared.
        weigh_own: Weigh the losses for what belongs to single tasks as well.
        preferences: What each task should count, ``[tasks]``; brought to a mean of one. UPGrad,
            PCGrad and Aligned-MTL take the mean that they end with by them; the weights of all
            other methods are multiplied by them.
        rows_at_once: Losses that one backward pass differentiates: each takes the memory of the
            activations' gradients once more. By default 16, or 1 where ``vmap`` makes it slower.
        representation: Module whose outputs, ``[rows, ...]`` or ``[tasks, rows, ...]``, are the
            shared representation, for methods that ask for gradients in it.
        check: Check at the first step, or at the first without broken tasks, that the losses depend
            on nothing that was not named, and what a recording or a representation gives.
    """

    def __init__(
        self,
        weighting: Weighting,
        shared: Parameters,
        own: Parameters = (),
        *,
        weigh_own: bool = False,
        preferences: Preferences | None = None,
        representation: nn.Module | None = None,
        rows_at_once: int | None = None,
        check: bool = True,
    ) -> None:
        check_method(weighting)
        self.weighting = weighting
        self._shared, self._own = _repeatable(shared), _repeatable(own)
        self.weigh_own = weigh_own
        self.preferences = as_preferences(preferences, weighting.num_tasks)
        if rows_at_once is not None:
            check_number("rows_at_once", rows_at_once, whole=True, at_least=1)
        if representation is not None:
            check_kind("representation", representation, nn.Module, "a module")
        self._checks_next = check
        self._jacobians = AutogradJacobians(rows_at_once, representation)
        self._awaits_losses = False
        self.parameters()

    def parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        """The trainable parameters that are shared, and those that are not."""
        own = tensors_of(self._own)
        known = {id(parameter) for parameter in own}
        shared = [p for p in tensors_of(self._shared) if id(p) not in known]
        return [p for p in shared if p.requires_grad], [p for p in own if p.requires_grad]

    @property
    def nbytes(self) -> int:
        """Memory that is kept between steps, in bytes: the tasks' gradients, if any were taken."""
        return self._jacobians.nbytes

    def backward(
        self,
        losses: TaskLosses,
        *,
        representation: Tensor | None = None,
        recording: Recording | None = None,
        noise: Tensor | None = None,
        scaler: torch.amp.GradScaler | None = None,
        factor: float = 1.0,
        diagnose: bool = False,
    ) -> BalancedStep:
        """Adds the balanced gradient to the parameters' ``.grad``.

        Args:
            losses: One per task, ``[tasks]``, or per task and row, ``[tasks, rows]``, or a sequence
                of either; of any origin. A method that wants n mini-batches splits the rows into n
                parts.
            representation: The shared representation that the losses were computed from, if no
                module was named.
            recording: What :func:`record` has seen of the forward pass that led to losses
                ``[tasks, rows]``: one backward pass then does for the layers that it knows.
            noise: Standard normal numbers of the shape that the method asks for; drawn from the
                global stream when left out.
            scaler: Of mixed precision: gradients are taken, and left, in its scale, which the
                optimiser's ``scaler.step`` takes away. The losses are given as they are.
            factor: What the gradients are multiplied by, such as one over the number of backward
                passes that make up one step.
            diagnose: Also compute the gradients' cosines.

        Returns:
            The weights, and what they were made of.

        Raises:
            ValueError: If the losses are not those of the method's tasks, or, at the first step on
                any device and at all on the CPU, negative where the method needs them positive.
        """
        weighting = self.weighting
        self._demand_observation()
        _check_kinds(representation, recording, scaler)
        if not isinstance(factor, Tensor):
            check_number("factor", factor, above=0)
        graph = LossGraph(losses, weighting.num_tasks, weighting.num_minibatches, scaler)
        shared, own = (Columns(parameters) for parameters in self.parameters())
        self._prepare(graph, shared, own)
        check, self._checks_next = self._checks_next, False
        with torch.no_grad():
            request = replace(weighting.request, needs_rows=weighting.needs_rows or diagnose)
            weighs_alike = self.weigh_own or not weighting.balances
            if weighs_alike and not (request.needs_rows or request.needs_kernels):
                # One pass does for both.
                shared, own = Columns([*shared.parameters, *own.parameters]), Columns([])
            jacobian, shared, along = self._jacobians.make(
                graph, shared, request, representation, recording, own.parameters, check=check
            )
            task_losses = average(graph.values.to(shared.dtype).mean(1))
            if check or task_losses.device.type == "cpu":
                weighting.check_losses(task_losses)
            weighting.fit(shared.num_entries)
            if noise is None:
                noise = from_first(noise_for(weighting, None, task_losses))
            preferences = None if self.preferences is None else self.preferences.to(task_losses)
            weighed = weigh(weighting, jacobian, task_losses, noise, preferences)
            own_gradient = self._own_gradient(graph, own, weighed, along)
            norm = torch.hypot(weighed.gradient.norm(), own_gradient.norm())
            is_lost = weighed.skipped.all() | ~is_finite(norm.square())
            change = _factor(factor, graph.scale, jacobian.finite & ~is_lost, task_losses)
            deliver(
                pair
                for columns, gradient in ((shared, weighed.gradient), (own, own_gradient))
                for pair in columns.split(gradient.masked_fill(is_lost, 0.0).mul_(change))
            )
            self._awaits_losses = weighting.observes_step
            self._checks_next = check and not bool((jacobian.finite & ~is_lost).all())
            return BalancedStep(
                losses=task_losses,
                weights=weighed.weights,
                eigenvalues=eigenvalues_of(weighting, weighed.kernels),
                skipped=(weighed.skipped | is_lost).to(task_losses.dtype),
                gradient_norm=norm,
                minimum_cosine=minimum_cosine(jacobian) if diagnose else None,
                residual=weighting.residual,
            )

    def observe(self, losses: TaskLosses) -> None:
        """Receives the losses of the same batch after the optimiser's step.

        Methods that learn from what a step did to the losses need it after each; to others it is
        nothing.
        """
        self._awaits_losses = False
        if self.weighting.observes_step:
            with torch.no_grad():
                parts = minibatch_losses(losses, self.weighting.num_tasks, 1)
                task_losses = average(parts.to(at_least_float32(parts))[:, 0].clone())
                if task_losses.device.type == "cpu":
                    self.weighting.check_losses(task_losses)
                observe(self.weighting, task_losses)

    def reset(self) -> None:
        """Lets the method forget all that it has learnt, as if no step had been taken."""
        self.weighting.reset()
        self._awaits_losses = False

    def to(self, *arguments: Any, **keywords: Any) -> TaskBalancer:  # noqa: ANN401
        """Moves the method's state, as ``torch.nn.Module.to`` does; steps see to it themselves."""
        self.weighting.to(*arguments, **keywords)
        return self

    def state_dict(self) -> dict[str, Any]:
        """The method's state: all that a resumed run needs."""
        return self.weighting.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        self.weighting.load_state_dict(state)

    def check_next_step(self) -> None:
        """Lets the next step check what the first one does."""
        self._checks_next = True

    def _demand_observation(self) -> None:
        if self._awaits_losses:
            raise ValueError(
                f"{type(self.weighting).__name__} learns from the losses after each step: call "
                "observe(losses) with those of the same batch after optimizer.step()"
            )

    def _prepare(self, graph: LossGraph, shared: Columns, own: Columns) -> None:
        if not any(loss.requires_grad for loss in graph.tensors):
            raise ValueError(
                "the losses depend on nothing that is trained: they were detached, computed under "
                "no_grad, or all that they depend on is frozen"
            )
        if not shared.parameters:
            raise ValueError("none of what was named as shared is trainable")
        if next(self.weighting.buffers(), graph.values).device != graph.values.device:
            self.weighting.to(graph.values.device)
        if self._checks_next:
            _check_names(graph.tensors, [*shared.parameters, *own.parameters])

    def _own_gradient(
        self,
        graph: LossGraph,
        own: Columns,
        weighed: Weighed,
        along: Sequence[Tensor | None] | None,
    ) -> Tensor:
        """Gradient of what belongs to single tasks, ``[entries]``."""
        if not own.parameters:
            return weighed.gradient.new_zeros(0)
        if along is not None and not self.weigh_own and not bool(weighed.skipped.any()):
            return average(own.vector(along) / graph.values.numel())
        weights = weighed.weights if self.weigh_own else (~weighed.skipped).to(weighed.weights)
        coefficients = weights[:, None].expand_as(graph.values) / graph.values.numel()
        return average(combine(graph, own, coefficients))


def _repeatable(parameters: Parameters) -> Parameters:
    """The same, of what can be gone through more than once: modules may change in between."""
    return list(parameters) if isinstance(parameters, Iterator) else parameters


def _check_kinds(representation: object, recording: object, scaler: object) -> None:
    for name, value, kind, wanted in (
        ("representation", representation, Tensor, "a tensor; modules are named when it is made"),
        ("recording", recording, Recording, "what `with record(network) as recording` gives"),
        ("scaler", scaler, torch.amp.GradScaler, "a torch.amp.GradScaler"),
    ):
        if value is not None:
            check_kind(name, value, kind, wanted)


def _check_names(losses: Sequence[Tensor], named: Sequence[Tensor]) -> None:
    """Raises an error if the losses depend on what nobody named, which would never learn."""
    known = {id(tensor) for tensor in named}
    forgotten = [leaf for leaf in leaves(losses) if id(leaf) not in known]
    if forgotten:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in forgotten[:3])
        raise ValueError(
            f"the losses depend on {len(forgotten)} trainable tensors that are named neither as "
            f"shared nor as own, of shapes {shapes}{', ...' * (len(forgotten) > 3)}: they would "
            "get no gradient. Name them, freeze them, or pass check=False"
        )


def _factor(factor: float, scale: Tensor | None, healthy: Tensor, losses: Tensor) -> Tensor | float:
    """What gradients are multiplied by: infinity tells a scaler of an overflow."""
    if scale is None:
        return factor
    overflows = (~healthy & is_finite(losses)).any()
    return torch.where(overflows, torch.inf, factor * scale.to(losses.dtype))
