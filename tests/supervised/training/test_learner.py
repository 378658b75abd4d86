"""Every method takes steps on a data set with all kinds of losses, or says why not."""

from __future__ import annotations

import pytest
import torch

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.supervised.config import SupervisedConfig
from mtrl_ntk.supervised.datasets.dataset import Examples
from mtrl_ntk.supervised.training.learner import Learner
from mtrl_ntk.supervised.training.run import SupervisedRun
from tests.supervised.runs import tiny


def examples_of(config: SupervisedConfig) -> Examples:
    return SupervisedRun(config, quiet=True).dataset.batch("train", range(8))


def assert_alike(one: Learner, other: Learner) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_three_steps(method: str) -> None:
    config = tiny(method=method)
    learner, examples = SupervisedRun(config, quiet=True).make_learner(), examples_of(config)
    before = [parameter.clone() for parameter in learner.network.parameters()]
    for _ in range(3):
        metrics = learner.update(examples, 0.01)
        assert all(metrics[name].shape == (4,) for name in ("losses/network", "weights/network"))
        assert not metrics["skipped/network"].any()
    after = learner.network.parameters()
    assert all((one != other).any() for one, other in zip(before, after, strict=True))
    assert all(tensor.isfinite().all() for tensor in learner.state_dict().values())


@pytest.mark.parametrize("method", ["ntkmtl", "ntkmtl_sr"])
@pytest.mark.parametrize("parts", [1, 2, 8])
def test_kernels_have_a_row_per_minibatch(method: str, parts: int) -> None:
    config = tiny(method=method, num_minibatches=parts)
    learner, examples = SupervisedRun(config, quiet=True).make_learner(), examples_of(config)
    assert (learner.update(examples, 0.01)["ntk/network"] > 0).all()


def test_with_equal_weights_it_is_an_ordinary_step_of_adam() -> None:
    config = tiny(method="equal")
    learner, examples = SupervisedRun(config, quiet=True).make_learner(), examples_of(config)
    plain = SupervisedRun(config, quiet=True).make_learner()
    learner.update(examples, 0.01)
    optimizer = torch.optim.Adam(plain.network.parameters(), 0.01)
    torch.stack([loss.mean() for loss in plain.losses(examples)]).mean().backward()
    optimizer.step()
    assert_alike(learner, plain)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "graddrop"])
def test_a_single_task_is_learnt_alike_by_equal_weights_and_others(method: str) -> None:
    config = tiny(method=method, tasks="left")
    learner, examples = SupervisedRun(config, quiet=True).make_learner(), examples_of(config)
    first = float(learner.update(examples, 0.01)["losses/network"])
    for _ in range(10):
        last = float(learner.update(examples, 0.01)["losses/network"])
    assert last < first


def test_networks_begin_alike_whatever_the_method() -> None:
    one, other = (
        SupervisedRun(tiny(method=method), quiet=True).make_learner().state_dict()
        for method in ("equal", "moco")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_look_at_the_trunk_sees_squared_gradient_norms_and_changes_nothing() -> None:
    config = tiny(method="equal")
    learner, examples = SupervisedRun(config, quiet=True).make_learner(), examples_of(config)
    other = SupervisedRun(config, quiet=True).make_learner()
    trunk = [*learner.network.trunk.parameters()]
    losses = learner.losses(examples)
    expected = [
        sum(
            float(g.square().sum())
            for g in torch.autograd.grad(loss.mean(), trunk, retain_graph=True)
        )
        for loss in losses
    ]
    seen = learner.update(examples, 0.01, look=True)["ntk/trunk"]
    assert seen.tolist() == pytest.approx(expected, rel=1e-4)
    other.update(examples, 0.01)
    assert_alike(learner, other)


def test_the_state_of_adam_comes_back() -> None:
    config = tiny()
    learner, examples = SupervisedRun(config, quiet=True).make_learner(), examples_of(config)
    learner.update(examples, 0.01)
    other = SupervisedRun(config, quiet=True).make_learner()
    other.load_state_dict(learner.state_dict())
    other.load_optimizer_state(learner.optimizer_state())
    for each in (learner, other):
        each.update(examples, 0.01)
    assert_alike(learner, other)
