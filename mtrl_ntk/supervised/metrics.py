"""What predictions are measured by: counts and sums, so that any batches give the same numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """One number that says how good predictions are."""

    name: str
    """What logs call it."""
    title: str
    """What tables call it."""
    unit: str = ""
    """Its unit; none for pure numbers."""
    higher_is_better: bool = False
    """Whether larger numbers are better ones."""
    decimals: int = 3
    """How many decimals tables show."""


class Tally(ABC):
    """Counts what predictions are worth, batch by batch."""

    @abstractmethod
    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts a batch, as its task's losses take it."""

    @abstractmethod
    def result(self) -> dict[str, float]:
        """The value of each metric by name; NaN where nothing has been counted."""


class ConfusionTally(Tally):
    """Intersection over union, averaged over classes, and accuracy, from counts of classes.

    Classes that are neither in the targets nor predicted do not count.

    Args:
        num_classes: Classes, the second axis of outputs ``[rows, classes, ...]``. A target of -1
            is unknown and not counted.
    """

    METRICS = (
        Metric("miou", "mIoU", "%", higher_is_better=True, decimals=2),
        Metric("pixel_accuracy", "Pix. acc.", "%", higher_is_better=True, decimals=2),
    )

    def __init__(self, num_classes: int) -> None:
        self._counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts a batch of ``[rows, classes, ...]`` and ``[rows, ...]``."""
        num_classes, known = len(self._counts), targets >= 0
        pairs = targets[known] * num_classes + outputs.argmax(1)[known]
        counts = torch.bincount(pairs, minlength=num_classes**2)
        self._counts += counts.view(num_classes, num_classes).cpu()

    def result(self) -> dict[str, float]:
        """Both metrics, in per cent."""
        hits = self._counts.diag().double()
        unions = self._counts.sum(0) + self._counts.sum(1) - hits
        overlaps = (hits / unions)[unions > 0]
        return {
            "miou": 100 * float(overlaps.mean()),
            "pixel_accuracy": 100 * _ratio(float(hits.sum()), int(self._counts.sum())),
        }


class AccuracyTally(Tally):
    """Share of examples whose class is predicted, of outputs ``[rows, classes]``."""

    METRICS = (Metric("accuracy", "Accuracy", "%", higher_is_better=True, decimals=2),)

    def __init__(self) -> None:
        self._hits = self._examples = 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts a batch of ``[rows, classes]`` and ``[rows]``."""
        self._hits += int((outputs.argmax(1) == targets).sum())
        self._examples += len(targets)

    def result(self) -> dict[str, float]:
        """The accuracy in per cent."""
        return {"accuracy": 100 * _ratio(self._hits, self._examples)}


class BinaryTally(Tally):
    """Accuracy, and F1 of what is true, of a logit per example."""

    METRICS = (
        Metric("f1", "F1", "%", higher_is_better=True, decimals=2),
        *AccuracyTally.METRICS,
    )

    def __init__(self) -> None:
        self._counts = torch.zeros(4, dtype=torch.int64)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts a batch of ``[rows, 1]`` and ``[rows]``."""
        predicted, actual = outputs.squeeze(1) > 0, targets > 0.5
        kinds = 2 * actual.long() + predicted.long()
        self._counts += torch.bincount(kinds, minlength=4).cpu()

    def result(self) -> dict[str, float]:
        """Both metrics in per cent; F1 is 0 where nothing was predicted that is true."""
        right_no, wrong_yes, wrong_no, right_yes = self._counts.tolist()
        examples = right_no + wrong_yes + wrong_no + right_yes
        relevant = 2 * right_yes + wrong_yes + wrong_no
        return {
            "f1": 100 * _ratio(2 * right_yes, relevant) if relevant or not examples else 0.0,
            "accuracy": 100 * _ratio(right_no + right_yes, examples),
        }


class ErrorTally(Tally):
    """Mean absolute error of a number per example, in its unit.

    Args:
        scale: What one stands for in the unit, where targets are normalised.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self._scale, self._sum, self._examples = scale, 0.0, 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts a batch of ``[rows, 1]`` and ``[rows]``."""
        self._sum += _sum((outputs.squeeze(1) - targets).abs())
        self._examples += len(targets)

    def result(self) -> dict[str, float]:
        """The error."""
        return {"mae": self._scale * _ratio(self._sum, self._examples)}


class ReconstructionTally(Tally):
    """Root of the mean squared error over all numbers of all examples."""

    METRICS = (Metric("rmse", "RMSE", decimals=4),)

    def __init__(self) -> None:
        self._sum, self._numbers = 0.0, 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts a batch of two tensors of the same shape."""
        self._sum += _sum((outputs - targets).square())
        self._numbers += targets.numel()

    def result(self) -> dict[str, float]:
        """The error."""
        return {"rmse": math.sqrt(_ratio(self._sum, self._numbers))}


class DepthTally(Tally):
    """Absolute and relative error over pixels whose depth is known, which is not 0.

    The published code averages the means of batches; here every pixel counts the same.

    Args:
        unit: What depths are measured in.
    """

    def __init__(self) -> None:
        self._absolute = self._relative = 0.0
        self._pixels = 0

    @staticmethod
    def metrics(unit: str) -> tuple[Metric, ...]:
        """The metrics, of depths in a unit."""
        return (
            Metric("absolute_error", "Abs. err.", unit, decimals=4),
            Metric("relative_error", "Rel. err.", decimals=4),
        )

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts a batch of ``[rows, 1, height, width]`` each."""
        known = targets != 0
        depths = targets[known]
        errors = (outputs[known] - depths).abs()
        self._absolute += _sum(errors)
        self._relative += _sum(errors / depths.abs())
        self._pixels += len(depths)

    def result(self) -> dict[str, float]:
        """Both errors."""
        return {
            "absolute_error": _ratio(self._absolute, self._pixels),
            "relative_error": _ratio(self._relative, self._pixels),
        }


class NormalsTally(Tally):
    """Angles between normals: mean, median, and shares within 11.25, 22.5 and 30 degrees.

    Pixels whose normal is unknown, the zero vector, do not count. The median is that of a histogram
    of thousandths of a degree.
    """

    METRICS = (
        Metric("mean_angle", "Mean", "°", decimals=2),
        Metric("median_angle", "Median", "°", decimals=2),
        Metric("within_11", "< 11.25°", "%", higher_is_better=True, decimals=2),
        Metric("within_22", "< 22.5°", "%", higher_is_better=True, decimals=2),
        Metric("within_30", "< 30°", "%", higher_is_better=True, decimals=2),
    )
    _LIMITS = (11.25, 22.5, 30.0)
    _BINS_PER_DEGREE = 1000

    def __init__(self) -> None:
        self._sum, self._within = 0.0, [0] * len(self._LIMITS)
        self._histogram = torch.zeros(180 * self._BINS_PER_DEGREE + 1, dtype=torch.int64)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts a batch of ``[rows, 3, height, width]`` each, vectors of any length."""
        outputs, targets = outputs.movedim(1, -1), targets.movedim(1, -1)
        known = (targets != 0).any(-1)
        # What is no number is as wrong as can be.
        angles = _angles(outputs[known].double(), targets[known].double()).nan_to_num(180.0)
        self._sum += _sum(angles)
        for index, limit in enumerate(self._LIMITS):
            self._within[index] += int((angles < limit).sum())
        bins = (angles * self._BINS_PER_DEGREE).long()
        self._histogram += torch.bincount(bins, minlength=len(self._histogram)).cpu()

    def result(self) -> dict[str, float]:
        """All five metrics."""
        pixels = int(self._histogram.sum())
        shares = (100 * _ratio(within, pixels) for within in self._within)
        return {
            "mean_angle": _ratio(self._sum, pixels),
            "median_angle": self._median(pixels),
            **dict(zip(("within_11", "within_22", "within_30"), shares, strict=True)),
        }

    def _median(self, pixels: int) -> float:
        """Mean of the two angles in the middle, each at the middle of its bin."""
        if not pixels:
            return math.nan
        below = self._histogram.cumsum(0)
        middle = torch.tensor([(pixels - 1) // 2, pixels // 2])
        bins = torch.searchsorted(below, middle, right=True).double()
        return float((bins.mean() + 0.5) / self._BINS_PER_DEGREE)


def _angles(first: Tensor, second: Tensor) -> Tensor:
    """Angles in degrees between vectors ``[count, 3]``; exact also where they are small."""
    sines = torch.linalg.vector_norm(torch.linalg.cross(first, second), dim=-1)
    return torch.rad2deg(torch.atan2(sines, (first * second).sum(-1)))


def _sum(numbers: Tensor) -> float:
    return float(numbers.sum(dtype=torch.float64))


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else math.nan
