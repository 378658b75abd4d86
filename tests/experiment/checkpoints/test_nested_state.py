"""Nested state is taken apart and put together again without loss."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from mtrl_ntk.experiment.checkpoints.nested_state import merge, split


def test_tensors_leave_and_come_back() -> None:
    state: dict[str, Any] = {
        "step": 3,
        "stream": {"state": 2**127 + 1, "empty": {}},
        "nothing": None,
        "envs": {"lengths": np.arange(3), "none": np.zeros((2, 0, 4), np.float32)},
        "metrics": {"sums": {"losses/critic": torch.tensor(0.1)}, "counts": {"b": 1, "a": 2}},
        "returns": [[0.1, 1e300], []],
    }
    tensors, values = split(state)
    assert set(tensors) == {"envs.lengths", "envs.none", "metrics.sums.losses/critic"}
    merged = merge(tensors, json.loads(json.dumps(values)))
    assert merged["envs"]["lengths"].numpy().tolist() == [0, 1, 2]
    assert merged["envs"]["none"].numpy().shape == (2, 0, 4)
    assert merged["metrics"]["sums"]["losses/critic"] is state["metrics"]["sums"]["losses/critic"]
    assert list(merged["metrics"]["counts"]) == ["b", "a"]
    for name in ("step", "stream", "nothing", "returns"):
        assert merged[name] == state[name]


def test_a_missing_tensor_is_noticed() -> None:
    tensors, values = split({"a": torch.zeros(1)})
    del tensors["a"]
    with pytest.raises(KeyError):
        merge(tensors, values)


def test_two_tensors_never_share_a_name() -> None:
    with pytest.raises(ValueError, match=r"two tensors are called a\.b"):
        split({"a": {"b": torch.zeros(1)}, "a.b": torch.ones(1)})
