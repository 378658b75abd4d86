"""Networks of many kinds: their gradients are those of a backward pass per task, however taken.

Each has one input for all tasks, or rows of each task's own and a recording.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal, spectral_norm
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from mtrl_ntk.balancing import TaskBalancer, Weighting, record
from mtrl_ntk.balancing.methods import METHODS
from tests.balancing.networks import FEATURES, Last, Mean, Reshaped, Sequences

TASKS, ROWS = 3, 8
Forward = Callable[[Any, Tensor], Tensor]


class Of(nn.Module):
    """Any function of modules and parameters, that go by one letter each."""

    def __init__(self, forward: Forward, **parts: Any) -> None:  # noqa: ANN401
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``[rows, 32]`` to ``[rows, features]``."""
        return self._forward(self, inputs)


class Square(torch.autograd.Function):
    """A function with a derivative of its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: Tensor) -> Tensor:
        """Squares."""
        return inputs.square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ANN401, ARG004
        """Keeps the inputs."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        """Twice the inputs."""
        (inputs,) = ctx.saved_tensors
        doubled: Tensor = 2 * inputs * gradient
        return doubled


class LowRank(nn.Module):
    """A frozen weight to which a product of two trained ones is added."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = (
            nn.Parameter(torch.randn(FEATURES, 2)),
            nn.Parameter(torch.randn(2, 32)),
        )

    def forward(self, weight: Tensor) -> Tensor:
        """The sum."""
        return weight + self.up @ self.down


def tokens(inputs: Tensor) -> Tensor:
    """Integers below six from numbers, ``[rows, 8]``."""
    return (inputs[:, :8] * 3).round().long() % 6


def embedded(**options: Any) -> nn.Module:  # noqa: ANN401
    """A mean of embeddings and a layer of the same weight."""
    layer = nn.Linear(5, FEATURES, bias=False)
    embedding = nn.Embedding(6, 5, **options)
    if not options:
        layer.weight = embedding.weight
    return Of(lambda m, x: m.l(m.e(tokens(x)).mean(1)), e=embedding, l=layer)


def attention(m: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    """Scaled dot products of one layer's outputs."""
    query, key, value = m.q(x.unflatten(1, (8, 4))).chunk(3, -1)
    outputs: Tensor = m.l(functional.scaled_dot_product_attention(query, key, value).mean(1))
    return outputs


def heads_of_attention(m: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    """Attention of several heads, of a sequence to itself."""
    sequence = x.unflatten(1, (8, 4))
    outputs: Tensor = m.l(m.a(sequence, sequence, sequence, need_weights=False)[0].mean(1))
    return outputs


def experts(m: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    """Each row goes to the layer that the gate likes best."""
    gates = m.g(x).softmax(1)
    outputs = x.new_zeros(len(x), FEATURES)
    for index, expert in enumerate(m.e):
        chosen = gates.argmax(1) == index
        outputs[chosen] = expert(x[chosen]) * gates[chosen, index, None]
    return outputs


def images(*layers: nn.Module) -> nn.Module:
    """Layers for images of two channels."""
    return nn.Sequential(Reshaped(), *layers, nn.Flatten(), nn.LazyLinear(FEATURES))


def adapted() -> nn.Module:
    """A frozen layer with a parametrisation that is trained."""
    layer = nn.Linear(32, FEATURES).requires_grad_(False)
    parametrize.register_parametrization(layer, "weight", LowRank())
    return layer


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "multi-head attention": lambda: Of(
        heads_of_attention,
        a=nn.MultiheadAttention(4, 2, batch_first=True),
        l=nn.Linear(4, FEATURES),
    ),
    "dot products": lambda: Of(attention, q=nn.Linear(4, 12), l=nn.Linear(4, FEATURES)),
    "encoder": lambda: nn.Sequential(
        Sequences(),
        nn.TransformerEncoderLayer(4, 2, 8, 0.1, batch_first=True, norm_first=True),
        Mean(),
        nn.Linear(4, FEATURES),
    ),
    "lstm": lambda: nn.Sequential(
        Sequences(),
        Last(nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True, dropout=0.2)),
        nn.Linear(12, FEATURES),
    ),
    "depthwise": lambda: images(
        nn.Conv2d(2, 4, 3, groups=2, padding=1, padding_mode="circular"), nn.Conv2d(4, 3, 1)
    ),
    "transposed": lambda: images(
        nn.ConvTranspose2d(2, 4, 2, stride=2, groups=2), nn.InstanceNorm2d(4, affine=True)
    ),
    "spectral": lambda: nn.Sequential(spectral_norm(nn.Linear(32, 5)), nn.Linear(5, FEATURES)),
    "orthogonal": lambda: nn.Sequential(orthogonal(nn.Linear(32, 5)), nn.Linear(5, FEATURES)),
    "bilinear": lambda: Of(lambda m, x: m.b(x[:, :16], x[:, 16:]), b=nn.Bilinear(16, 16, FEATURES)),
    "twice": lambda: Of(
        lambda m, x: m.l(m.a(m.a(x).tanh()).tanh()), a=nn.Linear(32, 32), l=nn.Linear(32, FEATURES)
    ),
    "functional": lambda: Of(
        lambda m, x: functional_call(m.l, {k: 2 * p for k, p in m.l.named_parameters()}, (x,)),
        l=nn.Linear(32, FEATURES),
    ),
    "vmap": lambda: Of(
        lambda m, x: vmap(lambda r: functional_call(m.l, dict(m.l.named_parameters()), (r,)))(x),
        l=nn.Linear(32, FEATURES),
    ),
    "checkpointed": lambda: Of(
        lambda m, x: m.l(checkpoint(m.a, x, use_reentrant=False)),
        a=nn.Sequential(nn.Linear(32, 8), nn.Dropout(0.2), nn.Tanh()),
        l=nn.Linear(8, FEATURES),
    ),
    "frozen": lambda: nn.Sequential(
        nn.Linear(32, 8).requires_grad_(False), nn.ReLU(), nn.Linear(8, FEATURES)
    ),
    "adapter": lambda: Of(
        lambda m, x: m.l(x) + x @ m.w @ m.v,
        l=nn.Linear(32, FEATURES).requires_grad_(False),
        w=nn.Parameter(torch.randn(32, 2)),
        v=nn.Parameter(torch.randn(2, FEATURES)),
    ),
    "adapted": adapted,
    "complex": lambda: Of(
        lambda m, x: torch.view_as_real(x.to(torch.complex128) @ m.w).flatten(1),
        w=nn.Parameter(torch.randn(32, 3, dtype=torch.complex128)),
    ),
    "spectrum": lambda: Of(
        lambda m, x: m.l(torch.view_as_real(torch.fft.rfft(x)).flatten(1)),
        l=nn.Linear(34, FEATURES),
    ),
    "tied embedding": embedded,
    "sparse embedding": lambda: embedded(sparse=True),
    "counted embedding": lambda: embedded(scale_grad_by_freq=True, max_norm=1.0),
    "own function": lambda: Of(
        lambda m, x: Square.apply(m.l(x)),  # type: ignore[no-untyped-call]
        l=nn.Linear(32, FEATURES),
    ),
    "parameters": lambda: Of(
        lambda m, x: (x @ m.p[0] + m.p[1]) * m.d["gain"],
        p=nn.ParameterList([torch.randn(32, FEATURES), torch.randn(FEATURES)]),
        d=nn.ParameterDict({"gain": torch.randn(FEATURES)}),
    ),
    "experts": lambda: Of(
        experts,
        g=nn.Linear(32, 3),
        e=nn.ModuleList([nn.Linear(32, FEATURES) for _ in range(3)]),
    ),
    "evaluated": lambda: nn.Sequential(
        nn.Linear(32, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, FEATURES)
    ).eval(),
}
"""Networks from ``[rows, 32]`` to ``[rows, features]`` by name."""


def make(name: str, inputs: Tensor) -> tuple[nn.Module, list[nn.Parameter]]:
    """A network of a kind and what is trained of it."""
    network = NETWORKS[name]()
    network(inputs.float() if name != "complex" else inputs)
    network.double()
    return network, [parameter for parameter in network.parameters() if parameter.requires_grad]


def flat(gradients: list[Tensor | None] | tuple[Tensor, ...], like: list[nn.Parameter]) -> Tensor:
    """Gradients as one vector of real numbers."""
    parts = [
        torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g
        for g, p in zip(gradients, like, strict=True)
    ]
    return torch.cat([(torch.view_as_real(p) if p.is_complex() else p).flatten() for p in parts])


def rows_of(parts: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Gradients of losses by one backward pass each, ``[losses, entries]``."""
    found = [
        torch.autograd.grad(p, parameters, retain_graph=True, allow_unused=True) for p in parts
    ]
    return torch.stack([flat(each, parameters) for each in found])


def check_gradients(
    weights: Tensor, losses: Tensor, shared: list[nn.Parameter], own: Sequence[nn.Parameter] = ()
) -> None:
    """Sees that ``.grad`` is what weights make of losses."""
    pairs = [(shared, (weights * losses).mean()), (list(own), losses.mean())]
    for parameters, loss in pairs[: 1 + bool(own)]:
        expected = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        found = [parameter.grad for parameter in parameters]
        assert_close(flat(found, parameters), flat(expected, parameters))


def sr(num_minibatches: int) -> Weighting:
    """NTKMTL-SR."""
    method = METHODS["ntkmtl_sr"]
    return method(TASKS, method.config_class(num_minibatches=num_minibatches))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rows_at_once", [None, 1, 2])
def test_tasks_on_one_input(name: str, rows_at_once: int | None) -> None:
    inputs = torch.randn(ROWS, 32, dtype=torch.float64)
    network, shared = make(name, inputs)
    heads = nn.ModuleList([nn.Linear(FEATURES, width) for width in (1, 4, 2)]).double()
    features = network(inputs)
    samples = torch.stack([10.0**t * h(features).square().sum(1) for t, h in enumerate(heads)])
    losses = samples.mean(1)
    rows = rows_of(losses, shared)
    method = METHODS["ntkmtl"](TASKS).double()
    balancer = TaskBalancer(method, network, heads, rows_at_once=rows_at_once)
    step = balancer.backward(losses)
    assert_close(step.eigenvalues, rows.square().sum(1))
    check_gradients(step.weights, losses, shared, list(heads.parameters()))
    network.zero_grad()
    heads.zero_grad()
    step = TaskBalancer(sr(4).double(), network, heads).backward(samples, representation=features)
    check_gradients(step.weights, losses, shared, list(heads.parameters()))


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_each_tasks_own(name: str) -> None:
    inputs = torch.randn(TASKS * ROWS, 32, dtype=torch.float64)
    network, _ = make(name, inputs)
    whole = nn.Sequential(network, nn.Linear(FEATURES, 1).double())
    shared = [parameter for parameter in whole.parameters() if parameter.requires_grad]
    method = METHODS["ntkmtl"]
    weighting = method(TASKS, method.config_class(num_minibatches=2)).double()
    with record(whole) as recording:
        outputs = whole(inputs)
    samples = (outputs.view(TASKS, ROWS) - 1).square() * torch.tensor([[0.1], [1.0], [100.0]])
    rows = rows_of(samples.unflatten(1, (2, -1)).mean(2).flatten(), shared).unflatten(0, (TASKS, 2))
    step = TaskBalancer(weighting, whole).backward(samples, recording=recording)
    eigenvalues = torch.linalg.eigvalsh(rows @ rows.mT)[:, -1]
    assert_close(step.eigenvalues, eigenvalues, rtol=1e-3, atol=0)
    check_gradients(step.weights, samples.mean(1), shared)


@pytest.mark.parametrize("method", ["ntkmtl", "si", "ntkmtl_sr"])
def test_heads_may_share_parts(method: str) -> None:
    inputs = torch.randn(ROWS, 32, dtype=torch.float64)
    network, shared = make("dot products", inputs)
    part = nn.Linear(FEATURES, 5)
    heads = nn.ModuleList([nn.Sequential(part, nn.Linear(5, 1)) for _ in range(2)]).double()
    heads.append(nn.Linear(FEATURES, 1).double())
    features = network(inputs)
    samples = torch.stack([10.0**t * h(features)[:, 0].square() for t, h in enumerate(heads)])
    balancer = TaskBalancer(METHODS[method](TASKS).double(), network, heads)
    step = balancer.backward(samples, representation=features)
    check_gradients(step.weights, samples.mean(1), shared, list(heads.parameters()))


def test_recordings_may_be_nested_and_outlive_a_failure() -> None:
    network = nn.Sequential(nn.Linear(32, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    inputs = torch.randn(TASKS * ROWS, 32, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), record(network):
        network(inputs[:, :5])
    with record(network) as outer, record(network[2]) as inner:
        outputs = network(inputs)
    samples = outputs.view(TASKS, ROWS).square() * torch.tensor([[0.1], [1.0], [100.0]])
    for recording in (outer, inner):
        network.zero_grad()
        balancer = TaskBalancer(METHODS["unit_norm"](TASKS).double(), network)
        step = balancer.backward(samples, recording=recording)
        check_gradients(step.weights, samples.mean(1), list(network.parameters()))


def test_balancers_are_copied_and_kept_in_files_with_their_networks() -> None:
    network = nn.Linear(32, TASKS).double()
    balancer = TaskBalancer(METHODS["famo"](TASKS).double(), network)
    inputs = torch.randn(ROWS, 32, dtype=torch.float64)

    def step(network: nn.Module, balancer: TaskBalancer) -> tuple[Tensor, Tensor]:
        network.zero_grad()
        weights = balancer.backward(network(inputs).square().mean(0)).weights
        balancer.observe(0.5 ** torch.arange(TASKS).double() * network(inputs).square().mean(0))
        return weights, flat([p.grad for p in network.parameters()], list(network.parameters()))

    step(network, balancer)
    copies = [deepcopy((network, balancer)), pickle.loads(pickle.dumps((network, balancer)))]
    expected = [step(network, balancer) for _ in range(2)]
    for copy in copies:
        assert_close([step(*copy) for _ in range(2)], expected)


@pytest.mark.parametrize("is_complex", [True, False])
def test_representations_are_real(*, is_complex: bool) -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64 if is_complex else torch.float32))
    features = torch.rand(8, 2) * weight
    losses = [(features[:, :1] * task).abs().sum(1) for task in (1, 2, 3)]
    balancer = TaskBalancer(sr(1), [weight])
    if is_complex:
        with pytest.raises(ValueError, match="the representation is complex"):
            balancer.backward(losses, representation=features)
    else:
        assert balancer.backward(losses, representation=features).weights.isfinite().all()
