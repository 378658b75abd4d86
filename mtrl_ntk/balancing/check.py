"""Compares gradients that were put together from factors with those of plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from mtrl_ntk.balancing.jacobian import Jacobian
from mtrl_ntk.balancing.loss_graph import Columns

_SMALL_SHARE = 1e-2
"""Share of the whole gradient below which a layer's errors count as those of so large a layer."""

Differentiate = Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor | None]]
"""Gradients of the losses' sum weighted by ``[tasks, mini-batches]``, in parameters."""


def check_gradients(
    network: nn.Module,
    differentiate: Differentiate,
    jacobian: Jacobian,
    shared: Sequence[Tensor],
    precision: torch.dtype,
    own: Sequence[Tensor] = (),
) -> bool:
    """Compares random combinations of a Jacobian's rows with autograd's gradients of the same.

    It takes one backward pass for what is shared and one for what is not, whatever the number of
    tasks: a wrong row shows in almost every combination. It waits for the device.

    Args:
        network: Knows the parameters' names.
        differentiate: Autograd's gradients.
        jacobian: What is checked.
        shared: The parameters of its columns.
        precision: In which layers have multiplied.
        own: The parameters of its own gradients.

    Returns:
        Whether there was anything to compare: not if a task has gradients that are not finite.

    Raises:
        ValueError: If gradients differ by more than rounding, with the layers' names.
    """
    if not bool(jacobian.finite.all()):
        return False
    with torch.no_grad():
        lengths = jacobian.kernels().diagonal(dim1=1, dim2=2).sqrt()
        longest = lengths.max()
        lengths = torch.where(longest > 0, lengths.clamp(min=1e-6 * longest), 1.0)
        factors = spread_signs(lengths) / lengths
        found = Columns(shared).parts(jacobian.combine_rows(factors))
        by_task = factors.mean(1)
        sizes = [p[0].numel() for p in own]
        found += [
            part.view_as(p) * by_task.view(-1, *[1] * (p.ndim - 1))
            for p, part in zip(own, jacobian.own_gradients().split(sizes, 1), strict=True)
        ]
    expected = _filled(differentiate(factors, shared), shared)
    if own:
        of_own = by_task[:, None].expand_as(factors) / factors.shape[1]
        expected += _filled(differentiate(of_own, own), own)
    complain_of_differences(network, [*shared, *own], found, expected, precision)
    return True


def spread_signs(like: Tensor) -> Tensor:
    """Numbers of unlike size and sign in the shape of others, always the same."""
    count = torch.arange(like.numel(), device=like.device, dtype=like.dtype)
    signs = 1.0 - 2.0 * (count % 3 % 2)
    return (signs * (0.5 + count / like.numel())).view_as(like)


def _filled(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor]:
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]


def complain_of_differences(
    network: nn.Module,
    parameters: Sequence[Tensor],
    found: Iterable[Tensor],
    expected: Sequence[Tensor],
    precision: torch.dtype,
) -> None:
    """Raises an error that names the parameters whose gradients are not the expected ones.

    Raises:
        ValueError: If any differ by more than rounding.
    """
    total = torch.stack([_exact(each).norm() for each in expected]).norm()
    if not total.isfinite():  # as in the first steps of a scaler
        return
    tolerance = 4 * torch.finfo(precision).eps ** 0.5
    wrong = []
    for parameter, one, other in zip(parameters, found, expected, strict=True):
        scale = _exact(other).norm() + _SMALL_SHARE * total
        error = ((_exact(one) - _exact(other)).norm() / scale).item()
        if not error <= tolerance:
            wrong.append(f"{_name_of(parameter, network)} (off by {error:.2g} of its size)")
    if wrong:
        raise ValueError(
            f"the recorded layers do not give autograd's gradients of {', '.join(wrong)}. Each may "
            "act once, through the recorded call alone, and each task's loss may depend on that "
            "task's rows alone. TaskBalancer without a recording leaves all layers to autograd"
        )


def _exact(gradient: Tensor) -> Tensor:
    return gradient.detach().to(torch.promote_types(gradient.dtype, torch.float64))


def _name_of(parameter: Tensor, network: nn.Module) -> str:
    """The names by which a network knows a parameter: all of them, if it is a tied one."""
    names = [
        name for name, each in network.named_parameters(remove_duplicate=False) if each is parameter
    ]
    return " = ".join(names) or f"a parameter of shape {list(parameter.shape)}"
