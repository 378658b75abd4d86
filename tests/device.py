"""Checks that keep the CUDA path honest on a machine without CUDA."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from typing_extensions import Self

_SYNCHRONISING = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_linalg_eigh",
    "linalg_eig",
    "is_nonzero",
    "equal",
    # What a tensor is made of that is given numbers of the host: on a device, a copy of them.
    "lift_fresh",
)


_MEMORY = ("empty", "empty_like", "new_empty", "_unsafe_view")


class HostSynchronisationError(AssertionError):
    """An operation made the host wait for the device, or would have on one."""


class HostSynchronisationGuard(TorchDispatchMode):
    """Raises on any operation that would make the host wait for the device."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Runs ``func`` unless it synchronises."""
        name = str(func).split(".")[1]
        indexed_by_mask = name in {"index", "index_put", "index_put_"} and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in _SYNCHRONISING or indexed_by_mask:
            raise HostSynchronisationError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


class StrayTensorGuard(TorchDispatchMode):
    """Raises on any operation that mixes a CPU tensor with tensors of the meta device.

    A CPU tensor without axes is no exception: it costs a copy to the device on every update.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Runs ``func`` unless its tensors are on several devices."""
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if len(devices) > 1:
            raise HostSynchronisationError(f"{func} mixes tensors of {sorted(devices)}")
        if func is torch.ops.aten._fused_adam_.tensor_lr:
            # On the meta device torch has the one for numbers only.
            func, kwargs = torch.ops.aten._fused_adam_.default, {**(kwargs or {}), "lr": 0.0}
        return func(*args, **(kwargs or {}))


class Count(TorchDispatchMode):
    """Counts operations of a kind.

    Attributes:
        count: How many there were.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Runs ``func``, and counts it if it is of the kind."""
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        self.count += self.counts(func, tensors)
        return result

    def counts(self, func: Callable[..., Any], tensors: list[torch.Tensor]) -> bool:
        """Whether an operation on and to these tensors is of the kind."""
        raise NotImplementedError


class TransferCount(Count):
    """Counts the copies between devices."""

    def counts(self, func: Callable[..., Any], tensors: list[torch.Tensor]) -> bool:
        """See the base class."""
        is_copy = str(func).split(".")[1] in {"copy_", "_to_copy"}
        return is_copy and len({tensor.device for tensor in tensors}) > 1


class OperationCount(Count):
    """Counts what computes something: the fewest kernels that a GPU has to start."""

    def counts(self, func: Callable[..., Any], tensors: list[torch.Tensor]) -> bool:  # noqa: ARG002
        """See the base class."""
        makes_memory = str(func).split(".")[1] in _MEMORY
        return not makes_memory and not getattr(func, "is_view", False)


class GeneratorForAnyDevice(torch.Generator):
    """A random stream on the CPU, whatever the device asked for."""

    def __new__(cls, device: torch.device) -> Self:  # noqa: ARG004
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]


def forbid_host_synchronisation() -> AbstractContextManager[object]:
    """A context in which no operation may make the host wait for the device."""
    return HostSynchronisationGuard()  # type: ignore[no-untyped-call]


def forbid_stray_tensors() -> AbstractContextManager[object]:
    """A context in which no operation may mix a CPU tensor with tensors of the meta device."""
    return StrayTensorGuard()  # type: ignore[no-untyped-call]
