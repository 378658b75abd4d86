"""Layers of several networks applied as one are those layers, one by one."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mtrl_ntk.balancing import Tape
from mtrl_ntk.balancing.ensemble import lay_side_by_side, stacked, together
from mtrl_ntk.balancing.factors import parameters_of
from mtrl_ntk.balancing.layers import TaskEmbedding, TaskLayerNorm, TaskLinear

MEMBERS, TASKS, ROWS, FEATURES = 3, 4, 5, 6

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(FEATURES, 2),
    "task_linear": lambda: TaskLinear(TASKS, FEATURES, 2),
    "layer_norm": lambda: nn.LayerNorm(FEATURES),
    "task_layer_norm": lambda: TaskLayerNorm(TASKS, FEATURES),
    "task_embedding": lambda: TaskEmbedding(TASKS, 2),
}

every_kind = pytest.mark.parametrize("kind", MAKERS)
both_memories = pytest.mark.parametrize("side_by_side", [False, True])


def make_layers(kind: str, *, side_by_side: bool = False) -> list[nn.Module]:
    """The same layer of several networks, with parameters that all differ."""
    layers = [MAKERS[kind]().double() for _ in range(MEMBERS)]
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    if side_by_side:
        lay_side_by_side(layers)
    return layers


def make_inputs() -> torch.Tensor:
    """Inputs of every member."""
    return torch.randn(MEMBERS, TASKS, ROWS, FEATURES, dtype=torch.float64, requires_grad=True)


@every_kind
@both_memories
def test_an_ensemble_is_its_members(kind: str, *, side_by_side: bool) -> None:
    layers, inputs = make_layers(kind, side_by_side=side_by_side), make_inputs()
    apart = torch.stack([layer(x) for layer, x in zip(layers, inputs, strict=True)])
    joint = together(layers)(inputs)
    assert_close(joint, apart)
    parameters = [p for layer in layers for p in layer.parameters()]
    asked = parameters if kind == "task_embedding" else [inputs, *parameters]
    cotangent = torch.randn_like(apart)
    assert_close(
        torch.autograd.grad(joint, asked, cotangent), torch.autograd.grad(apart, asked, cotangent)
    )


@every_kind
@both_memories
def test_a_tape_records_an_ensemble_as_its_members(kind: str, *, side_by_side: bool) -> None:
    layers, inputs = make_layers(kind, side_by_side=side_by_side), make_inputs()
    joint_tape, tape = Tape(), Tape()
    joint = joint_tape(together(layers), inputs)
    apart = torch.stack([tape(layer, x) for layer, x in zip(layers, inputs, strict=True)])
    assert_close(joint, apart)
    assert [id(p) for p in parameters_of(joint_tape.factors)] == [
        id(p) for p in parameters_of(tape.factors)
    ]
    cotangent = torch.randn_like(apart)
    for factor, other, gradient in zip(joint_tape.factors, tape.factors, cotangent, strict=True):
        assert_close(factor.own(cotangent), gradient)
        written = [
            [torch.empty(TASKS, p.numel() // copies).double() for p in factor.parameters]
            for copies in 2 * [TASKS if kind.startswith("task") else 1]
        ]
        factor.write(factor.own(cotangent), written[0])
        other.write(gradient, written[1])
        assert_close(*written)


def test_the_factors_of_a_network_stand_together() -> None:
    networks = [[nn.Linear(FEATURES, FEATURES), nn.LayerNorm(FEATURES)] for _ in range(MEMBERS)]
    tape, features = Tape(), torch.randn(MEMBERS, TASKS, ROWS, FEATURES)
    for layers in zip(*networks, strict=True):
        features = tape(together(layers), features)
    in_order = [p for network in networks for layer in network for p in layer.parameters()]
    assert [id(p) for p in parameters_of(tape.factors)] == [id(p) for p in in_order]


def test_layers_without_parameters_stand_for_all() -> None:
    layers = [nn.ReLU(), nn.ReLU()]
    assert together(layers) is layers[0]


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(3, 3, 1), nn.Linear(3, 3, bias=False), nn.LayerNorm(3, bias=False)]
)
def test_unknown_layers_are_refused(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match="there is no ensemble of"):
        together([layer, layer])


@every_kind
def test_what_lies_side_by_side_is_not_copied(kind: str) -> None:
    layers = make_layers(kind)
    before = deepcopy(layers)
    parameters = [list(layer.parameters()) for layer in layers]
    for group in zip(*parameters, strict=True):
        assert stacked(group).data_ptr() != group[0].data_ptr()
    lay_side_by_side(layers)
    for layer, old, same in zip(layers, before, parameters, strict=True):
        assert [id(p) for p in layer.parameters()] == [id(p) for p in same]
        assert_close(layer.state_dict(), old.state_dict())
    for group in zip(*parameters, strict=True):
        assert stacked(group).data_ptr() == group[0].data_ptr()
        with torch.no_grad():
            group[1].fill_(7.0)
        assert_close(stacked(group), torch.stack(group))


def test_tensors_in_another_order_or_memory_are_copied() -> None:
    memory = torch.arange(12.0).view(3, 4)
    first, second, third = memory
    others = torch.arange(8.0).view(2, 4)
    for tensors in (
        [second, first],
        [first, third],
        [first, others[1]],
        [memory.T[0], memory.T[1]],
    ):
        assert stacked(tensors).data_ptr() != tensors[0].data_ptr()
        assert torch.equal(stacked(tensors), torch.stack(tensors))
    assert stacked([second, third]).data_ptr() == second.data_ptr()


def test_a_copy_of_an_ensemble_is_one_of_its_own() -> None:
    layers, inputs = make_layers("linear", side_by_side=True), make_inputs()
    joint = together(layers)
    copied_layers, copy = deepcopy((layers, joint))
    with torch.no_grad():
        next(layers[0].parameters()).zero_()
    assert_close(copy(inputs)[0], copied_layers[0](inputs[0]))
    assert not torch.equal(copy(inputs), joint(inputs))
