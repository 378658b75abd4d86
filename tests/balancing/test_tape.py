"""What a tape records, and what it refuses."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mtrl_ntk.balancing import Tape, factored_jacobian
from mtrl_ntk.balancing.layers import TaskEmbedding, TaskLayerNorm, TaskLinear


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Linear(3, 4), r"Linear\("),
        (nn.LayerNorm(3), r"LayerNorm\("),
        (TaskLinear(2, 3, 4), r"TaskLinear\("),
    ],
)
def test_overwritten_outputs_are_an_error(layer: nn.Module, name: str, device: str) -> None:
    layer = deepcopy(layer).to(device)
    inputs = torch.randn(2, 5, 3, device=device)
    for activation in (nn.ReLU(), nn.ReLU(inplace=True)):
        tape = Tape()
        losses = tape(activation, tape(layer, inputs)).square().sum(2)
        if activation.inplace:
            with pytest.raises(ValueError, match=f"outputs of {name}.* were overwritten"):
                factored_jacobian(tape, losses)
        else:
            factored_jacobian(tape, losses)


def test_overwritten_inputs_are_an_error() -> None:
    inputs, tape = torch.randn(2, 5, 3), Tape()
    losses = tape(nn.Linear(3, 4), inputs).square().sum(2)
    inputs.zero_()
    with pytest.raises(ValueError, match=r"inputs or outputs of Linear\(.* were overwritten"):
        factored_jacobian(tape, losses)


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(TypeError, match="a tape cannot record Conv1d"):
        Tape()(nn.Conv1d(1, 1, 1), torch.zeros(2, 3, 1))
    with pytest.raises(TypeError, match="a tape cannot record LayerNorm"):
        Tape()(nn.LayerNorm(4, bias=False), torch.zeros(2, 3, 4))


def test_taped_layers_return_what_plain_layers_return() -> None:
    inputs = torch.randn(2, 3, 4)
    own = TaskLinear(2, 4, 5), TaskLayerNorm(2, 4), TaskEmbedding(2, 5)
    for layer in (nn.Linear(4, 5), nn.LayerNorm(4), nn.ReLU(), *own):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_()
        assert_close(Tape()(layer, inputs), layer(inputs))
