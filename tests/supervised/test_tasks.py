"""Losses of tasks: one per example, whose mean is the published loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtrl_ntk.supervised.tasks import (
    Attribute,
    Classification,
    Depth,
    Normals,
    Reconstruction,
    Regression,
    Segmentation,
    Task,
)

ROWS, SIZE = 4, (3, 5)


def dense(channels: int) -> Tensor:
    return torch.randn(ROWS, channels, *SIZE, requires_grad=True)


def known() -> Tensor:
    """Pixels that are known: most, but none of the last example."""
    mask = torch.rand(ROWS, *SIZE) > 0.3
    mask[-1] = False
    return mask


def case(name: str) -> tuple[Task, Tensor, Tensor]:
    if name == "classification":
        outputs = torch.randn(ROWS, 6, requires_grad=True)
        return Classification(name, 6), outputs, torch.randint(6, (ROWS,))
    if name == "attribute":
        labels = torch.randint(2, (ROWS,)).float()
        return Attribute(name), torch.randn(ROWS, 1, requires_grad=True), labels
    if name == "regression":
        outputs = torch.randn(ROWS, 1, requires_grad=True)
        return Regression(name, "eV", 2.0), outputs, torch.randn(ROWS)
    if name == "reconstruction":
        outputs = torch.randn(ROWS, 8, requires_grad=True)
        return Reconstruction(name, 8), outputs, torch.randn(ROWS, 8)
    if name == "segmentation":
        labels = torch.where(known(), torch.randint(6, (ROWS, *SIZE)), -1)
        return Segmentation(name, 6), dense(6), labels
    if name == "depth":
        return Depth(name, "m"), dense(1), (1 + torch.rand(ROWS, *SIZE) * known())[:, None]
    targets = functional.normalize(torch.randn(ROWS, 3, *SIZE), dim=1) * known()[:, None]
    return Normals(name), dense(3), targets


CASES = (
    "classification",
    "attribute",
    "regression",
    "reconstruction",
    "segmentation",
    "depth",
    "normals",
)


@pytest.mark.parametrize("name", CASES)
def test_each_example_has_a_loss_that_is_not_negative(name: str) -> None:
    task, outputs, targets = case(name)
    losses = task.losses(outputs, targets)
    assert losses.shape == (ROWS,)
    assert bool((losses >= 0).all())
    losses.sum().backward()
    assert outputs.grad is not None
    assert bool(outputs.grad.isfinite().all())


@pytest.mark.parametrize("name", CASES)
def test_a_row_depends_on_its_own_outputs_only(name: str) -> None:
    task, outputs, targets = case(name)
    task.losses(outputs, targets)[0].backward()
    assert outputs.grad is not None
    assert not bool(outputs.grad[1:].any())


@pytest.mark.parametrize("name", CASES)
def test_the_tally_gives_the_metrics_of_the_task(name: str) -> None:
    task, outputs, targets = case(name)
    tally = task.tally()
    tally.add(outputs.detach(), targets)
    assert list(tally.result()) == [metric.name for metric in task.metrics]


def test_unknown_pixels_count_for_nothing() -> None:
    for name in ("segmentation", "depth", "normals"):
        task, outputs, targets = case(name)
        if name == "depth":
            targets = torch.where(known()[:, None], targets, 0.0)
        assert task.losses(outputs, targets)[-1].item() == 0.0
        nothing = torch.full_like(targets, -1 if name == "segmentation" else 0)
        assert not bool(task.losses(outputs, nothing).any())


def test_the_mean_is_that_over_all_known_pixels_as_published() -> None:
    task, outputs, targets = case("segmentation")
    published = functional.nll_loss(functional.log_softmax(outputs, 1), targets, ignore_index=-1)
    torch.testing.assert_close(task.losses(outputs, targets).mean(), published)

    task, outputs, targets = case("depth")
    targets = torch.where(known()[:, None], targets, 0.0)
    mask = (targets.sum(1) != 0).float()[:, None]
    published = ((outputs - targets).abs() * mask).sum() / mask.sum()
    torch.testing.assert_close(task.losses(outputs, targets).mean(), published)

    task, outputs, targets = case("normals")
    mask = (targets.sum(1) != 0).float()[:, None]
    unit = outputs / outputs.norm(p=2, dim=1, keepdim=True)
    published = 1 - (unit * targets * mask).sum() / mask.sum()
    torch.testing.assert_close(task.losses(outputs, targets).mean(), published)


def test_losses_of_normals_are_those_of_torch_also_where_a_prediction_is_zero() -> None:
    outputs, targets = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3, 4, 5).double()
    outputs[0, :, 0, 0] = 0
    outputs[0, :, 0, 1] *= 1e-6
    both = [outputs.clone().requires_grad_() for _ in range(2)]
    found = Normals("normals").losses(both[0], targets).mean()
    expected = (1 - functional.cosine_similarity(both[1], targets, dim=1)).mean()
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad(loss, x)[0] for loss, x in zip((found, expected), both, strict=True)
    ]
    torch.testing.assert_close(*gradients)
