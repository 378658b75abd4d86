"""Tallies against own computations, over batches of any size."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl_ntk.supervised.metrics import (
    AccuracyTally,
    BinaryTally,
    ConfusionTally,
    DepthTally,
    ErrorTally,
    NormalsTally,
    ReconstructionTally,
    Tally,
)

ROWS, CLASSES, HEIGHT, WIDTH = 11, 5, 3, 4


def counted(tally: Tally, outputs: Tensor, targets: Tensor, *sizes: int) -> dict[str, float]:
    """What a tally says of batches of these sizes; by default of one batch."""
    rows = list(sizes) or [len(outputs)]
    for output, target in zip(outputs.split(rows), targets.split(rows), strict=True):
        tally.add(output, target)
    return tally.result()


def pixels(channels: int) -> Tensor:
    return torch.randn(ROWS, channels, HEIGHT, WIDTH)


def segmented() -> tuple[Tensor, Tensor]:
    """Predictions, and labels some of which are unknown; the last class is nowhere."""
    outputs = pixels(CLASSES)
    outputs[:, -1] = -100
    return outputs, torch.randint(-1, CLASSES - 1, (ROWS, HEIGHT, WIDTH))


def deep() -> tuple[Tensor, Tensor]:
    depths = 1 + torch.rand(ROWS, 1, HEIGHT, WIDTH)
    return depths + 0.3 * pixels(1), depths * (torch.rand(ROWS, 1, HEIGHT, WIDTH) > 0.3)


def oriented() -> tuple[Tensor, Tensor]:
    normals = torch.nn.functional.normalize(pixels(3), dim=1)
    known = torch.rand(ROWS, 1, HEIGHT, WIDTH) > 0.3
    return 2 * normals + 0.5 * pixels(3), normals * known


def numbers() -> tuple[Tensor, Tensor]:
    return torch.randn(ROWS, 1), torch.randn(ROWS)


def attributes() -> tuple[Tensor, Tensor]:
    return torch.randn(ROWS, 1), torch.randint(2, (ROWS,)).float()


def named() -> tuple[Tensor, Tensor]:
    return torch.randn(ROWS, CLASSES), torch.randint(CLASSES, (ROWS,))


def vectors() -> tuple[Tensor, Tensor]:
    return torch.randn(ROWS, 6), torch.randn(ROWS, 6)


CASES: dict[str, tuple[Callable[[], Tally], Callable[[], tuple[Tensor, Tensor]]]] = {
    "confusion": (lambda: ConfusionTally(CLASSES), segmented),
    "depth": (DepthTally, deep),
    "normals": (NormalsTally, oriented),
    "error": (ErrorTally, numbers),
    "binary": (BinaryTally, attributes),
    "accuracy": (AccuracyTally, named),
    "reconstruction": (ReconstructionTally, vectors),
}


@pytest.mark.parametrize("case", CASES)
def test_any_batches_give_the_same_numbers(case: str) -> None:
    make, examples = CASES[case]
    outputs, targets = examples()
    whole = counted(make(), outputs, targets)
    assert counted(make(), outputs, targets, 4, 1, 6) == pytest.approx(whole, rel=1e-12)
    assert counted(make(), outputs, targets, 1, 10) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_nothing_counted_is_no_number(case: str) -> None:
    assert all(math.isnan(value) for value in CASES[case][0]().result().values())


def test_overlap_is_averaged_over_classes_that_are_there() -> None:
    outputs, targets = segmented()
    predicted, actual = outputs.argmax(1).numpy(), targets.numpy()
    overlaps = []
    for label in range(CLASSES - 1):
        hits = ((predicted == label) & (actual == label)).sum()
        union = (((predicted == label) & (actual >= 0)) | (actual == label)).sum()
        overlaps.append(hits / union)
    found = counted(ConfusionTally(CLASSES), outputs, targets)
    assert found["miou"] == pytest.approx(100 * np.mean(overlaps))
    accuracy = (predicted == actual)[actual >= 0].mean()
    assert found["pixel_accuracy"] == pytest.approx(100 * accuracy)


def test_a_class_that_is_only_predicted_counts_as_missed() -> None:
    labels = torch.tensor([[0, 1]])
    found = counted(ConfusionTally(3), torch.eye(3)[[0, 2]].T[None], labels)
    assert found["miou"] == pytest.approx(100 / 3)


def test_depth_errors_count_known_pixels() -> None:
    outputs, targets = deep()
    predicted, actual = outputs.double().numpy(), targets.double().numpy()
    errors = np.abs(predicted - actual)[actual != 0]
    found = counted(DepthTally(), outputs, targets)
    assert found["absolute_error"] == pytest.approx(errors.mean(), rel=1e-6)
    assert found["relative_error"] == pytest.approx((errors / actual[actual != 0]).mean(), rel=1e-6)


def test_angles_are_those_of_the_published_formula() -> None:
    outputs, targets = oriented()
    predicted, actual = outputs.double().numpy(), targets.double().numpy()
    cosines = (predicted * actual).sum(1) / np.linalg.norm(predicted, axis=1)
    angles = np.degrees(np.arccos(cosines))[(actual != 0).any(1)]
    found = counted(NormalsTally(), outputs, targets)
    assert found["mean_angle"] == pytest.approx(angles.mean(), rel=1e-5)
    assert found["median_angle"] == pytest.approx(np.median(angles), abs=1e-3)
    for name, limit in (("within_11", 11.25), ("within_22", 22.5), ("within_30", 30.0)):
        assert found[name] == pytest.approx(100 * (angles < limit).mean())


@pytest.mark.parametrize("angle", [0.0, 0.01, 90.0, 179.99, 180.0])
def test_small_and_flat_angles_are_exact(angle: float) -> None:
    radians = math.radians(angle)
    outputs = torch.tensor([math.cos(radians), math.sin(radians), 0.0]).view(1, 3, 1, 1)
    found = counted(NormalsTally(), outputs, torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
    assert found["mean_angle"] == pytest.approx(angle, abs=1e-4)
    assert found["median_angle"] == pytest.approx(angle, abs=1e-3)


def test_a_normal_that_is_no_number_is_as_wrong_as_can_be() -> None:
    outputs, targets = torch.ones(1, 3, 1, 2), torch.ones(1, 3, 1, 2)
    outputs[..., 1] = math.nan
    found = counted(NormalsTally(), outputs, targets)
    assert found["mean_angle"] == pytest.approx(90, abs=1e-3)
    assert found["within_30"] == 50


def test_attributes_are_those_whose_logits_are_positive() -> None:
    outputs = torch.tensor([[2.0], [0.1], [-3.0], [-0.2], [1.0]])
    found = counted(BinaryTally(), outputs, torch.tensor([1.0, 0, 1, 0, 1]))
    assert found == pytest.approx({"f1": 100 * 2 / 3, "accuracy": 60.0})


def test_an_attribute_that_nobody_has_is_never_found() -> None:
    assert counted(BinaryTally(), torch.tensor([[-1.0]]), torch.zeros(1))["f1"] == 0.0


def test_errors_are_in_the_unit_of_the_scale() -> None:
    outputs, targets = numbers()
    error = float((outputs[:, 0] - targets).abs().mean())
    assert counted(ErrorTally(7.0), outputs, targets)["mae"] == pytest.approx(7 * error)


def test_accuracy_and_reconstruction() -> None:
    outputs, targets = named()
    hits = float((outputs.argmax(1) == targets).float().mean())
    assert counted(AccuracyTally(), outputs, targets)["accuracy"] == pytest.approx(100 * hits)
    outputs, targets = vectors()
    error = float((outputs - targets).square().mean().sqrt())
    assert counted(ReconstructionTally(), outputs, targets)["rmse"] == pytest.approx(error)
