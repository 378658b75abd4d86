"""The precision in which the networks multiply while they learn."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from mtrl_ntk.errors import UserError

Precision = Literal["float32", "tf32", "bf16"]
"""``tf32``: products on CUDA round their factors to 10 bits of mantissa. ``bf16``: layers and their
gradients are computed in bfloat16. Parameters, losses, kernels and optimisers stay in float32."""

AskedPrecision = Literal["auto", Precision]
"""``auto``: ``bf16`` on a CPU that multiplies in it, ``float32`` anywhere else."""


def resolve_precision(asked: AskedPrecision, device: torch.device) -> Precision:
    """The precision that is meant on a device."""
    if asked != "auto":
        return asked
    return "bf16" if device.type == "cpu" and cpu_multiplies_in_bf16() else "float32"


def cpu_multiplies_in_bf16() -> bool:
    """Whether this CPU has an instruction for it; others emulate it, and are slow."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def layers_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which layers are applied in a precision."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def set_products(precision: AskedPrecision, device: torch.device) -> None:
    """Sets how this process multiplies float32 matrices on CUDA; PyTorch has one such setting.

    Raises:
        UserError: If there is no such product on the device.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UserError("precision tf32 needs CUDA; use --precision float32 or --precision bf16")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
