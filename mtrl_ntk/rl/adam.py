"""Adam as a few tensors that stay where they are, so that its step can be compiled or captured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mtrl_ntk.balancing.memory import as_rows, split_like
from mtrl_ntk.rl.schedules import Schedule, at

_BETAS = (0.9, 0.999)


class Adam:
    """The step of ``torch.optim.Adam(fused=True)``, bit for bit, with its state on the device.

    The optimiser of torch makes its state at its first step and replaces it when one is loaded; a
    captured CUDA graph would go on writing into what was there before. Its ``step`` is opaque to
    ``torch.compile`` as well. Here the moments, the step counts and the gradients are there from
    the start, and loading copies into them.

    Args:
        parameters: What is optimised; each needs a gradient by the first step.
        learning_rate: Step size; a schedule's goes by the steps that were taken.
        epsilon: Added to the denominator.

    Attributes:
        found_inf: While it is one and not zero, steps change nothing; torch's name for it.
    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float | Schedule, epsilon: float = 1e-8
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.epsilon = learning_rate, epsilon
        self._first_moments, self._second_moments = (_zeros_like(self.parameters) for _ in range(2))
        # One count for each, as in torch's checkpoints.
        self._counts = torch.zeros(len(self.parameters), device=self.parameters[0].device)
        self._steps = list(self._counts.unbind())
        self.found_inf = torch.zeros((), device=self.parameters[0].device)

    @property
    def num_steps(self) -> Tensor:
        """Steps that were taken, on the device."""
        return self._steps[0]

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters along their gradients."""
        rate = at(self.learning_rate, self.num_steps)
        number, tensor = (0.0, rate) if isinstance(rate, Tensor) else (rate, None)
        self._counts.add_(1 - self.found_inf)
        parameters, gradients, first_moments, second_moments = as_rows(
            self.parameters,
            [_gradient(parameter) for parameter in self.parameters],
            self._first_moments,
            self._second_moments,
        )
        # What ``torch.optim.Adam`` calls, behind a wrapper that no compiler may look into.
        step = _opaque_step if torch.compiler.is_compiling() else _fused_step
        step(
            parameters,
            gradients,
            first_moments,
            second_moments,
            self._steps[: len(parameters)],
            self.found_inf,
            number,
            self.epsilon,
            tensor,
        )

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts, ``{parameter}.{key}`` as torch has them; empty before a step.

        Waits for the device.
        """
        return self._tensors() if self._steps[0].item() else {}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copies what :meth:`state` gave into this optimiser.

        Raises:
            ValueError: If the names or shapes are not this optimiser's.
        """
        own = self._tensors()
        if state and state.keys() != own.keys():
            raise ValueError(f"moments are not of {len(self.parameters)} parameters")
        for name, tensor in state.items():
            if tensor.shape != own[name].shape:
                raise ValueError(f"moments are {list(tensor.shape)}, not {list(own[name].shape)}")
        for name, tensor in own.items():
            tensor.copy_(state.get(name, torch.zeros_like(tensor)))

    def _tensors(self) -> dict[str, Tensor]:
        parts = zip(self._steps, self._first_moments, self._second_moments, strict=True)
        return {
            f"{index}.{key}": tensor
            for index, tensors in enumerate(parts)
            for key, tensor in zip(("step", "exp_avg", "exp_avg_sq"), tensors, strict=True)
        }


def _zeros_like(parameters: Sequence[Tensor]) -> list[Tensor]:
    first = parameters[0]
    return split_like(first.new_zeros(sum(p.numel() for p in parameters)), parameters)


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise ValueError("a parameter has no gradient to follow")
    return parameter.grad


def _fused_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first_moments: list[Tensor],
    second_moments: list[Tensor],
    steps: list[Tensor],
    found_inf: Tensor,
    learning_rate: float,
    epsilon: float,
    learning_rate_tensor: Tensor | None,
) -> None:
    torch._fused_adam_(
        parameters,
        gradients,
        first_moments,
        second_moments,
        [],
        steps,
        lr=learning_rate if learning_rate_tensor is None else learning_rate_tensor,
        beta1=_BETAS[0],
        beta2=_BETAS[1],
        weight_decay=0.0,
        eps=epsilon,
        amsgrad=False,
        maximize=False,
        found_inf=found_inf,
    )


# Compilers that make operations pure stumble over the empty list among the kernel's arguments.
_opaque_step = torch.library.custom_op(
    "mtrl_ntk::adam_step",
    _fused_step,
    mutates_args=("parameters", "first_moments", "second_moments", "steps"),
    schema=(
        "(Tensor(a!)[] parameters, Tensor[] gradients, Tensor(b!)[] first_moments, "
        "Tensor(c!)[] second_moments, Tensor(d!)[] steps, Tensor found_inf, "
        "float learning_rate, float epsilon, Tensor? learning_rate_tensor) -> ()"
    ),
)
