"""Recordings of unchanged networks: what they give is what autograd gives, or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.testing import assert_close

from mtrl_ntk.balancing import Jacobian, TaskBalancer, record, register_layer
from mtrl_ntk.balancing.autograd_jacobian import AutogradJacobians
from mtrl_ntk.balancing.jacobian import Request
from mtrl_ntk.balancing.loss_graph import Columns, LossGraph
from mtrl_ntk.balancing.methods import METHODS
from tests.balancing.networks import Last, Mean

TASKS, ROWS = 3, 4


class Residual(nn.Module):
    """A layer whose outputs are added to its inputs, in place."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, features]`` to the same."""
        outputs: Tensor = self.layers(inputs)
        outputs += inputs
        return outputs


class Tokens(nn.Module):
    """Integers from numbers."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, 32]`` to ``[rows, 8]``."""
        return (inputs[:, :8] * 3).round().long() % 7


def _images(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (2, 4, 4)), *layers, nn.Flatten(), nn.LazyLinear(3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Linear(32, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)),
    "residual": lambda: nn.Sequential(
        nn.Linear(32, 6), Residual(nn.LayerNorm(6), nn.ReLU(inplace=True), nn.Linear(6, 6))
    ),
    "convolutions": lambda: _images(
        nn.Conv2d(2, 6, 3, padding="same"),
        nn.GroupNorm(2, 6),
        nn.PReLU(),
        nn.Conv2d(6, 4, 2, groups=2),
    ),
    "transposed": lambda: _images(nn.ConvTranspose2d(2, 3, 2, stride=2, bias=False), nn.Tanh()),
    "embedding": lambda: nn.Sequential(Tokens(), nn.Embedding(7, 5), nn.RMSNorm(5), Mean()),
    "sequence": lambda: nn.Sequential(nn.Unflatten(1, (8, 4)), nn.Linear(4, 5), nn.GELU(), Mean()),
    "attention": lambda: nn.Sequential(
        nn.Unflatten(1, (8, 4)), nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), Mean()
    ),
    "gru": lambda: nn.Sequential(
        nn.Unflatten(1, (8, 4)),
        nn.Linear(4, 4),
        Last(nn.GRU(4, 5, batch_first=True)),
        nn.Linear(5, 2),
    ),
    "parametrised": lambda: nn.Sequential(
        weight_norm(nn.Linear(32, 5)), nn.Tanh(), nn.Linear(5, 2)
    ),
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """A network and inputs ``[tasks * rows, 32]``."""
    network, inputs = NETWORKS[name](), torch.randn(TASKS * ROWS, 32)
    network(inputs)
    return network.double(), inputs.double()


def losses_of(outputs: Tensor) -> Tensor:
    """Losses ``[tasks, rows]``, of unlike size."""
    scales = torch.tensor([0.1, 1.0, 100.0], dtype=outputs.dtype)[:, None]
    return scales * (outputs - 1).square().flatten(1).sum(1).view(TASKS, ROWS)


def jacobians(
    network: nn.Module, inputs: Tensor, request: Request
) -> tuple[tuple[Jacobian, list[Tensor]], tuple[Jacobian, list[Tensor]]]:
    """The Jacobian from a recording and by autograd, each with its parameters in order."""
    found = []
    with record(network) as recording:
        losses = losses_of(network(inputs))
    for each in (recording, None):
        graph = LossGraph(losses, TASKS, request.num_minibatches)
        columns = Columns([p for p in network.parameters() if p.requires_grad])
        maker = AutogradJacobians(None, None)
        jacobian, columns, _ = maker.make(graph, columns, request, recording=each, check=True)
        found.append((jacobian, columns.parameters))
    return found[0], found[1]


def by_parameter(combined: Tensor, parameters: list[Tensor]) -> dict[int, Tensor]:
    parts = combined.split([parameter.numel() for parameter in parameters])
    return {id(parameter): part for parameter, part in zip(parameters, parts, strict=True)}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("num_minibatches", [1, 2])
@pytest.mark.parametrize("needs_rows", [True, False])
def test_recordings_agree_with_autograd(
    name: str, num_minibatches: int, *, needs_rows: bool
) -> None:
    network, inputs = make(name)
    request = Request(num_minibatches, needs_rows=needs_rows)
    (found, order), (expected, parameters) = jacobians(network, inputs, request)
    assert_close(found.kernels(), expected.kernels())
    assert_close(found.gramian(), expected.gramian())
    weights = torch.rand(TASKS, dtype=torch.float64)
    one = by_parameter(found.combine(weights), order)
    for key, part in by_parameter(expected.combine(weights), parameters).items():
        assert_close(one[key], part)
    if needs_rows:
        assert_close(found.rows(), expected.rows())


def test_layers_that_keep_kernels_go_last() -> None:
    network = nn.Sequential(
        nn.Linear(32, 600), nn.Tanh(), nn.Linear(600, 600), nn.Tanh(), nn.PReLU()
    )
    network, inputs = network.double(), torch.randn(TASKS * ROWS, 32).double()
    request = Request(2, needs_rows=False)
    (found, order), (expected, parameters) = jacobians(network, inputs, request)
    assert [id(p) for p in order] != [id(p) for p in parameters]
    assert_close(found.kernels(), expected.kernels())
    weights = torch.rand(TASKS, dtype=torch.float64)
    one = by_parameter(found.combine(weights), order)
    for key, part in by_parameter(expected.combine(weights), parameters).items():
        assert_close(one[key], part)


@pytest.mark.parametrize("name", ["linear", "residual", "convolutions", "sequence"])
def test_one_backward_pass_does_for_all_tasks(name: str) -> None:
    network, inputs = make(name)
    passes: list[int] = []
    balancer = TaskBalancer(METHODS["ntkmtl"](TASKS), network, check=False)
    with record(network) as recording:
        outputs = network(inputs)
        outputs.register_hook(lambda _: passes.append(1))
    balancer.backward(losses_of(outputs), recording=recording)
    assert len(passes) == 1


def tied() -> nn.Module:
    """Two layers of one weight."""
    network = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32), nn.Linear(32, 2))
    network[2].weight = network[0].weight
    return network


def called_twice() -> nn.Module:
    """One layer in two places."""
    layer = nn.Linear(32, 32)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(32, 2))


def hooked() -> nn.Module:
    """A layer whose outputs are changed by a hook."""
    network = nn.Sequential(nn.Linear(32, 5), nn.Linear(5, 2))
    network[0].register_forward_hook(lambda _, __, outputs: outputs * 2)
    return network


def subclassed() -> nn.Module:
    """A layer that computes something else than its base class."""

    class Doubled(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return 2 * super().forward(inputs)

    return nn.Sequential(Doubled(32, 5), nn.Linear(5, 2))


def partly_frozen() -> nn.Module:
    """Layers of which parts are not trained."""
    network = nn.Sequential(nn.Linear(32, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    network[0].bias.requires_grad_(False)
    network[1].weight.requires_grad_(False)
    network[2].weight.requires_grad_(False)
    return network


@pytest.mark.parametrize("make_network", [tied, called_twice, hooked, subclassed, partly_frozen])
@pytest.mark.parametrize("needs_rows", [True, False])
def test_unusual_layers_are_right_all_the_same(
    make_network: Callable[[], nn.Module], *, needs_rows: bool
) -> None:
    network, inputs = make_network().double(), torch.randn(TASKS * ROWS, 32).double()
    request = Request(2, needs_rows=needs_rows)
    (found, _), (expected, _) = jacobians(network, inputs, request)
    assert_close(found.kernels(), expected.kernels())
    assert_close(found.gramian(), expected.gramian())


def regularised(network: nn.Sequential, inputs: Tensor) -> Tensor:
    """A weight acts in the losses themselves."""
    return losses_of(network(inputs)) + network[2].weight.square().sum()  # type: ignore[operator]


def used_beside(network: nn.Sequential, inputs: Tensor) -> Tensor:
    """A weight acts beside the layer's call."""
    outputs: Tensor = network(inputs)
    return losses_of(outputs + nn.functional.linear(inputs[:, :5], network[2].weight))  # type: ignore[arg-type]


def across_tasks(network: nn.Sequential, inputs: Tensor) -> Tensor:
    """Each task's outputs depend on the others' rows."""
    hidden = nn.functional.batch_norm(network[:2](inputs), None, None, training=True)
    return losses_of(network[2](hidden))


@pytest.mark.parametrize(
    ("losses", "named"),
    [(regularised, r"of 2\.weight"), (used_beside, r"of 2\.weight"), (across_tasks, r"0\.weight")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_recording_cannot_know_is_an_error(
    losses: Callable[[nn.Sequential, Tensor], Tensor], named: str, dtype: torch.dtype
) -> None:
    network = nn.Sequential(nn.Linear(32, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    balancer = TaskBalancer(METHODS["pcgrad"](TASKS), network)
    with record(network) as recording:
        found = losses(network, torch.randn(TASKS * ROWS, 32, dtype=dtype))
    with pytest.raises(ValueError, match=f"do not give autograd's gradients .*{named}"):
        balancer.backward(found, recording=recording)


class Scaled(nn.Module):
    """A layer of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, 32]`` to the same."""
        return inputs * self.log_scale.exp()


def test_layers_of_the_users_own_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtrl_ntk.balancing.factors._RECORDED", {})
    network, inputs = nn.Sequential(Scaled(), nn.Tanh()).double(), torch.randn(12, 32).double()
    assert not record_of(network, inputs)
    register_layer(Scaled)
    assert record_of(network, inputs) == [network[0]]
    (found, _), (expected, _) = jacobians(network, inputs, Request(2))
    assert_close(found.rows(), expected.rows())
    anything: Any = network[0]
    with pytest.raises(ValueError, match="it must be a class of modules"):
        register_layer(anything)
    anything = nn.Linear
    with pytest.raises(ValueError, match="it must be a subclass of Factor"):
        register_layer(Scaled, anything)
    anything = [network]
    with (
        pytest.raises(ValueError, match="network is a list; it must be a module"),
        record(anything),
    ):
        pass


def record_of(network: nn.Module, inputs: Tensor) -> list[nn.Module]:
    """The layers whose calls are used."""
    with record(network) as recording:
        network(inputs)
    return [each.factor.layer for each in recording.layers(list(network.parameters()), TASKS, ROWS)]


def test_networks_are_left_as_they_were() -> None:
    network, inputs = make("linear")
    with pytest.raises(RuntimeError, match="on purpose"), record(network):
        raise RuntimeError("on purpose")
    assert not any(module._forward_hooks for module in network.modules())
    with record(network) as recording, torch.no_grad():
        network(inputs)
    assert not recording.calls


def test_overwritten_inputs_are_left_to_autograd() -> None:
    network = nn.Sequential(nn.Linear(32, 5), nn.Linear(5, 2)).double()
    inputs = torch.randn(12, 32).double()
    with record(network) as recording:
        network(inputs)
        inputs.zero_()
    used = recording.layers(list(network.parameters()), TASKS, ROWS)
    assert [each.factor.layer for each in used] == [network[1]]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [None, 2.0**6])
def test_recordings_under_autocast(name: str, dtype: torch.dtype, scale: float | None) -> None:
    network, inputs = make(name)
    network, inputs = network.float(), inputs.float()
    balancer = TaskBalancer(METHODS["ntkmtl"](TASKS), network)
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    with record(network) as recording, torch.autocast("cpu", dtype):
        losses = losses_of(network(inputs).float())
    step = balancer.backward(losses, recording=recording, scaler=scaler)
    plain = balancer.backward(losses_of(network(inputs)))
    assert_close(step.weights, plain.weights, rtol=0.1, atol=0)
    assert step.eigenvalues.dtype == torch.float32
