"""NTKMTL-SR: Eq. 17 and 18 on a network with a head per task."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mtrl_ntk.balancing import Balancer, Tape, apply_layer
from mtrl_ntk.balancing.layers import TaskLayerNorm, TaskLinear
from mtrl_ntk.balancing.methods.ntkmtl_sr import NTKMTLSR, NTKMTLSRConfig
from mtrl_ntk.balancing.tape import ApplyLayer
from tests.balancing.problems import make_problem, weigh


@pytest.mark.parametrize("representation_kernel", ["features", "rows"])
def test_weights_follow_the_kernels_of_the_representation(representation_kernel: str) -> None:
    problem = make_problem(own="head", batch_size=8)
    config = NTKMTLSRConfig(representation_kernel=representation_kernel)  # type: ignore[arg-type]
    jacobian = problem.factored(4, source="representation")
    kernels = jacobian.representation_kernels(across_rows=representation_kernel == "features")
    eigenvalues = torch.linalg.eigvalsh(kernels)[:, -1]
    expected = torch.sqrt(eigenvalues.mean() / eigenvalues)
    # Squaring leaves a mixture of eigenvalues that are almost equal.
    assert_close(weigh(NTKMTLSR(4, config), problem), expected, rtol=1e-4, atol=0)


def test_a_network_without_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="no layers of the tasks' own"):
        weigh(NTKMTLSR(4), make_problem(batch_size=8))


class Deep(nn.Module):
    """A shared layer and heads of two layers with a normalisation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(5, 7)
        self.norm, self.first = TaskLayerNorm(3, 7), TaskLinear(3, 7, 4)
        self.last = TaskLinear(3, 4, 2)

    def features(self, inputs: Tensor, apply: ApplyLayer = apply_layer) -> Tensor:
        """What the heads read."""
        return torch.tanh(apply(self.shared, inputs))

    def losses(self, features: Tensor, apply: ApplyLayer = apply_layer) -> Tensor:
        """Losses of every row."""
        hidden = torch.tanh(apply(self.first, apply(self.norm, features)))
        scales = torch.tensor([0.1, 1.0, 10.0])[:, None]
        losses: Tensor = scales * (apply(self.last, hidden) - 1).square().sum(2)
        return losses


@pytest.mark.parametrize("num_minibatches", [1, 4])
def test_heads_may_have_several_layers(num_minibatches: int) -> None:
    network, inputs = Deep().double(), torch.randn(3, 8, 5, dtype=torch.float64)
    z = network.features(inputs)
    parts = network.losses(z).unflatten(1, (num_minibatches, -1)).mean(2).flatten()
    gradients = [torch.autograd.grad(part, z, retain_graph=True)[0].sum((0, 1)) for part in parts]
    rows = torch.stack(gradients).view(3, num_minibatches, -1)
    eigenvalues = torch.linalg.eigvalsh(rows @ rows.mT)[:, -1]
    weighting = NTKMTLSR(3, NTKMTLSRConfig(num_minibatches=num_minibatches))
    tape = Tape()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = network.losses(network.features(inputs, tape), tape)
    found = Balancer(network, weighting, optimizer).step(tape, losses)
    expected = (eigenvalues.mean() / eigenvalues).sqrt()
    assert_close(found.weights, expected, rtol=1e-4, atol=0)
