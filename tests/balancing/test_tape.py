"""What a tape records, and what it refuses."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
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


class Doubling(nn.Linear):
    """Computes something else than its class."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Twice what a linear layer returns."""
        return 2 * super().forward(inputs)


class Renamed(nn.Linear):
    """Computes the same as its class."""


def hooked() -> nn.Module:
    """A layer whose outputs a hook changes."""
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda _, __, outputs: 2 * outputs)
    return layer


def overridden() -> nn.Module:
    """A layer that is called by another name."""
    layer = nn.LayerNorm(4)
    layer.forward = lambda inputs: 2 * inputs  # type: ignore[method-assign, assignment]
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(1, 1, 1),
        nn.BatchNorm1d(4),
        nn.PReLU(),
        Doubling(4, 4),
        hooked(),
        overridden(),
        weight_norm(nn.Linear(4, 4)),
    ],
)
def test_unknown_and_changed_layers_are_refused(layer: nn.Module) -> None:
    with pytest.raises(
        TypeError, match=r"(?s)a tape cannot record .*TaskBalancer balances any network"
    ):
        Tape()(layer, torch.zeros(2, 3, 4))


def test_layers_without_anything_to_train_pass() -> None:
    tape = Tape()
    for layer in (nn.Linear(4, 4).requires_grad_(False), nn.LayerNorm(4, elementwise_affine=False)):
        tape(layer, torch.zeros(2, 3, 4))
    tape(Renamed(4, 4), torch.zeros(2, 3, 4))
    assert len(tape.factors) == 1


def test_taped_layers_return_what_plain_layers_return() -> None:
    inputs = torch.randn(2, 3, 4)
    own = TaskLinear(2, 4, 5), TaskLayerNorm(2, 4), TaskEmbedding(2, 5)
    for layer in (nn.Linear(4, 5), nn.LayerNorm(4), nn.LayerNorm(4, bias=False), nn.ReLU(), *own):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_()
        assert_close(Tape()(layer, inputs), layer(inputs))
