"""What all networks are."""

from __future__ import annotations

import pytest
import torch

from mtrl_ntk.balancing import TaskBalancer
from mtrl_ntk.balancing.methods.ntkmtl_sr import NTKMTLSR, NTKMTLSRConfig
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.supervised.datasets.dataset import Inputs
from mtrl_ntk.supervised.networks.cnn9 import CNN9, CNN9Config
from mtrl_ntk.supervised.networks.message_passing import MessagePassing, MessagePassingConfig
from mtrl_ntk.supervised.networks.mtan import MTAN
from mtrl_ntk.supervised.networks.network import Network
from mtrl_ntk.supervised.networks.registry import NETWORKS
from mtrl_ntk.supervised.networks.segnet import SegNet, SegNetConfig
from mtrl_ntk.supervised.networks.small_cnn import SmallCNN, SmallCNNConfig
from mtrl_ntk.supervised.tasks import (
    Attribute,
    Classification,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)

ROWS = 4


def case(name: str) -> tuple[Network, Inputs, list[Task]]:
    tasks: list[Task] = [Classification("left", 5), Regression("sum")]
    if name == "small_cnn":
        return SmallCNN(SmallCNNConfig(4, 8), (1, 4, 6), tasks), torch.randn(ROWS, 1, 4, 6), tasks
    if name == "message_passing":
        atoms, mask = torch.rand(ROWS, 3, 11), torch.arange(3) < torch.tensor([3, 2, 1, 3])[:, None]
        parts = {"atoms": atoms, "pairs": torch.rand(ROWS, 3, 3, 5), "mask": mask}
        tasks = [Regression("mu"), Regression("alpha")]
        return MessagePassing(MessagePassingConfig(4, 6), (11, 5), tasks), parts, tasks
    if name == "cnn9":
        tasks = [Attribute(f"attribute{index}") for index in range(40)]
        return CNN9(CNN9Config(1), (3, 16, 16), tasks), torch.randn(ROWS, 3, 16, 16), tasks
    tasks = [Segmentation("segmentation", 5), Depth("depth"), Normals("normals")]
    if name == "mtan":
        return MTAN(SegNetConfig(2), (3, 32, 40), tasks), torch.randn(ROWS, 3, 32, 40), tasks
    return SegNet(SegNetConfig(2), (3, 32, 40), tasks), torch.randn(ROWS, 3, 32, 40), tasks


NAMES = [*NETWORKS]
SIZES = {"small_cnn": (1, 4, 6), "message_passing": (11, 5), "cnn9": (3, 16, 16)}


@pytest.mark.parametrize("name", NAMES)
def test_with_one_task_it_is_the_network_of_that_task_alone(name: str) -> None:
    _, inputs, tasks = case(name)
    config = NETWORKS[name].config_class()
    alone = NETWORKS[name](config, SIZES.get(name, (3, 32, 40)), tasks[-1:])
    together = NETWORKS[name](config, SIZES.get(name, (3, 32, 40)), tasks)

    def shapes(of: Network) -> set[tuple[str, torch.Size]]:
        parameters = of.named_parameters()
        return {(key, each.shape) for key, each in parameters if "_attention." not in key}

    heads = {f"heads.{task.name}." for task in tasks[:-1]}
    assert shapes(alone) == {
        (key, shape) for key, shape in shapes(together) if not key.startswith(tuple(heads))
    }
    assert set(alone.eval()(inputs)) == {tasks[-1].name}


@pytest.mark.parametrize("name", NAMES)
def test_each_task_has_an_output_of_its_size(name: str) -> None:
    network, inputs, tasks = case(name)
    outputs = network(inputs)
    assert list(outputs) == [task.name for task in tasks]
    assert [output.shape[:2] for output in outputs.values()] == [
        (ROWS, task.outputs) for task in tasks
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_trunk_is_the_representation_that_all_methods_can_use(name: str) -> None:
    network, inputs, tasks = case(name)
    method = NTKMTLSR(len(tasks), NTKMTLSRConfig(num_minibatches=2))
    balancer = TaskBalancer(method, network.trunk, network.heads, representation=network.trunk)
    losses = [output.flatten(1).square().mean(1) for output in network(inputs).values()]
    step = balancer.backward(losses)
    assert bool((step.weights > 0).all())
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "message_passing"])
def test_the_layout_of_images_changes_no_output_and_no_gradient(name: str) -> None:
    network, inputs, _ = case(name)
    assert isinstance(inputs, torch.Tensor)
    network.double()
    found = []
    for images in (inputs, inputs.contiguous(memory_format=torch.channels_last)):
        outputs = [each.flatten(1) for each in network(images.double()).values()]
        summed = torch.cat(outputs, dim=1).sin().sum()
        found.append([*outputs, *torch.autograd.grad(summed, [*network.parameters()])])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", ["segnet", "mtan", "cnn9"])
def test_images_that_are_too_small_are_refused_and_the_smallest_are_not(name: str) -> None:
    network, least, (_, _, tasks) = NETWORKS[name], NETWORKS[name].shortest_side, case(name)
    config = network.config_class(width=1)  # type: ignore[call-arg]
    rows = torch.randn(max(2, network.fewest_rows), 3, least, least)
    assert network(config, (3, least, least), tasks)(rows)
    for side in range(1, least):
        with pytest.raises(ConfigError, match=f"{name} needs {least} by {least} at least"):
            network(config, (3, least, side), tasks)
