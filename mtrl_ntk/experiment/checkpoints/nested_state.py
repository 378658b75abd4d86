"""Nested state as tensors, which safetensors keep, and the rest, which JSON keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TENSOR = "tensor"
"""Key of a place holder, whose value is the tensor's name."""


def split(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Takes the tensors and arrays out of a nested mapping.

    Returns:
        The tensors by their path, and the mapping with place holders, for JSON. Nothing is copied.

    Raises:
        ValueError: If two tensors have the same path.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _without_tensors(state, "", tensors)


def _without_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {
            key: _without_tensors(part, f"{path}.{key}" if path else key, tensors)
            for key, part in value.items()
        }
    if not isinstance(value, np.ndarray | Tensor):
        return value
    if path in tensors:
        raise ValueError(f"two tensors are called {path}")
    tensors[path] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    return {_TENSOR: path}


def merge(tensors: Mapping[str, Tensor], values: Any) -> Any:  # noqa: ANN401
    """Puts the tensors back that :func:`split` took out; arrays come back as tensors.

    Raises:
        KeyError: If a tensor is missing.
    """
    if not isinstance(values, Mapping):
        return values
    if values.keys() == {_TENSOR}:
        return tensors[values[_TENSOR]]
    return {key: merge(tensors, part) for key, part in values.items()}
