"""The precision in which the networks multiply while they learn."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from mtrl_ntk.errors import UserError

Precision = Literal["float32", "tf32", "bf16"]
"""``tf32``: products on CUDA round their factors to 10 bits of mantissa. ``bf16``: layers and their
gradients are computed in bfloat16. Parameters, losses, kernels and optimisers stay in float32."""


def layers_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which layers are applied in a precision."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def set_products(precision: Precision, device: torch.device) -> None:
    """Sets how this process multiplies float32 matrices on CUDA; PyTorch has one such setting.

    Raises:
        UserError: If there is no such product on the device.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UserError("precision tf32 needs CUDA; use --precision float32 or --precision bf16")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
