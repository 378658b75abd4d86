"""Layers of the tasks' own: as many ordinary layers, applied at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mtrl_ntk.balancing.layers import TaskEmbedding, TaskLayerNorm, TaskLinear, split_parameters

INPUTS = torch.linspace(-2, 3, 3 * 5 * 4, dtype=torch.float64).sin().reshape(3, 5, 4)


def of_task(layer: TaskLinear | TaskLayerNorm, plain: nn.Module, task: int) -> Tensor:
    """What an ordinary layer with a task's parameters makes of the task's inputs."""
    parameters = {name: value[task] for name, value in layer.named_parameters()}
    outputs: Tensor = torch.func.functional_call(plain, parameters, (INPUTS[task],))
    return outputs


def test_each_task_has_a_linear_layer() -> None:
    layer = TaskLinear(3, 4, 6).double()
    nn.init.normal_(layer.bias)
    plain = nn.Linear(4, 6).double()
    assert_close(layer(INPUTS), torch.stack([of_task(layer, plain, task) for task in range(3)]))


def test_each_task_has_a_layer_normalisation() -> None:
    layer = TaskLayerNorm(3, 4).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    plain = nn.LayerNorm(4).double()
    assert_close(layer(INPUTS), torch.stack([of_task(layer, plain, task) for task in range(3)]))


def test_each_task_has_a_vector_whatever_the_inputs() -> None:
    layer = TaskEmbedding(3, 2)
    assert torch.equal(layer(INPUTS), layer.weight[:, None].repeat(1, 5, 1))


def test_parameters_are_shared_or_belong_to_one_task() -> None:
    embedding, head = TaskEmbedding(3, 4), TaskLinear(3, 4, 1)
    trunk, norm = nn.Linear(4, 4), nn.LayerNorm(4)
    network = nn.Sequential(embedding, trunk, nn.Sequential(norm, head))
    shared, task_specific = split_parameters(network)
    expected = [trunk.weight, trunk.bias, norm.weight, norm.bias]
    assert [*map(id, shared)] == [*map(id, expected)]
    assert [*map(id, task_specific)] == [*map(id, [embedding.weight, head.weight, head.bias])]
