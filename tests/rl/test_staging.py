"""Arrays arrive as they were sent, in one copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtrl_ntk.rl.staging import Staging
from tests.device import TransferCount

ARRAYS: list[npt.NDArray[Any]] = [
    np.arange(5, dtype=np.int64),
    np.array([True, False, True]),
    np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    np.zeros((0, 4), np.float32),
    np.arange(6.0).reshape(2, 3).T,
]


def assert_arrived(sent: list[npt.NDArray[Any]], got: list[Tensor]) -> None:
    for array, tensor in zip(sent, got, strict=True):
        assert tensor.numpy().dtype == array.dtype
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_arrays_of_any_type_and_shape_arrive() -> None:
    staging = Staging(torch.device("cpu"))
    for arrays in (ARRAYS[:2], ARRAYS, ARRAYS[::-1], ARRAYS[2:]):
        assert_arrived(arrays, staging.send(*arrays))


def test_what_was_sent_is_the_callers_own() -> None:
    array = np.zeros(3)
    (arrived,) = Staging(torch.device("cpu")).send(array)
    arrived.fill_(1.0)
    assert array.tolist() == [0.0] * 3


def test_there_is_one_copy_to_another_device() -> None:
    staging = Staging(torch.device("meta"))
    with TransferCount() as log:
        arrived = staging.send(*ARRAYS)
    assert log.count == 1
    assert [tensor.shape for tensor in arrived] == [array.shape for array in ARRAYS]
    assert {tensor.device.type for tensor in arrived} == {"meta"}
