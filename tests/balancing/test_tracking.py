"""Moving averages of gradients: their size, and states that have one."""

from __future__ import annotations

import pytest
import torch

from mtrl_ntk.balancing import weights_of_rows
from mtrl_ntk.balancing.methods import METHODS

keeping = pytest.mark.parametrize("method", ["moco", "db_mtl"])
LOSSES = torch.tensor([1.0, 2.0, 3.0])


@keeping
def test_averages_get_their_size_with_the_first_gradients(method: str) -> None:
    known, unknown = METHODS[method](3, None, 20), METHODS[method](3)
    for _ in range(3):
        rows = torch.randn(3, 20)
        expected = weights_of_rows(known, rows, LOSSES)
        assert torch.equal(weights_of_rows(unknown, rows, LOSSES), expected)
    assert unknown.state_dict().keys() == known.state_dict().keys()
    assert unknown.num_parameters == 20


@keeping
def test_a_state_gives_a_new_instance_its_size(method: str) -> None:
    saved, loaded = METHODS[method](3), METHODS[method](3)
    weights_of_rows(saved, torch.randn(3, 20), LOSSES)
    loaded.load_state_dict(saved.state_dict())
    rows = torch.randn(3, 20)
    assert torch.equal(weights_of_rows(loaded, rows, LOSSES), weights_of_rows(saved, rows, LOSSES))


@keeping
def test_a_state_of_another_size_is_refused(method: str) -> None:
    saved = METHODS[method](3, None, 20).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch for tracked"):
        METHODS[method](3, None, 21).load_state_dict(saved)
