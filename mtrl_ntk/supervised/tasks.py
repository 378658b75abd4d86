"""Tasks: what a head puts out, what it learns by, and what it is measured by."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from mtrl_ntk.supervised.metrics import (
    AccuracyTally,
    BinaryTally,
    ConfusionTally,
    DepthTally,
    ErrorTally,
    Metric,
    NormalsTally,
    ReconstructionTally,
    Tally,
)


class Task(ABC):
    """A task of a data set.

    Args:
        name: What the data set calls it.
        outputs: Channels of its head's output, ``[rows, outputs]``, or in dense prediction
            ``[rows, outputs, height, width]``.
        metrics: What predictions are measured by, the most important first.
    """

    def __init__(self, name: str, outputs: int, metrics: tuple[Metric, ...]) -> None:
        self.name, self.outputs, self.metrics = name, outputs, metrics

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the task is learnt by, ``[rows]``."""

    @abstractmethod
    def tally(self) -> Tally:
        """Counts what predictions are worth."""


class Classification(Task):
    """One of several classes per example, by cross-entropy."""

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__(name, num_classes, AccuracyTally.METRICS)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropies of ``[rows, classes]`` and ``[rows]``."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def tally(self) -> Tally:
        """Counts accuracy."""
        return AccuracyTally()


class Attribute(Task):
    """Whether an example has an attribute, by cross-entropy of a logit."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 1, BinaryTally.METRICS)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropies of ``[rows, 1]`` and ``[rows]``."""
        logits = outputs.squeeze(1)
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")

    def tally(self) -> Tally:
        """Counts F1 and accuracy."""
        return BinaryTally()


class Regression(Task):
    """A number per example, by the squared error.

    Args:
        name: What the data set calls it.
        unit: Unit of its error.
        scale: What one stands for in that unit, where targets are normalised.
        decimals: How many decimals tables show.
    """

    def __init__(self, name: str, unit: str = "", scale: float = 1.0, decimals: int = 3) -> None:
        super().__init__(name, 1, (Metric("mae", "MAE", unit, decimals=decimals),))
        self.scale = scale

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared errors of ``[rows, 1]`` and ``[rows]``."""
        return (outputs.squeeze(1) - targets).square()

    def tally(self) -> Tally:
        """Counts the mean absolute error."""
        return ErrorTally(self.scale)


class Reconstruction(Task):
    """The numbers of an example as one vector, by their mean squared error."""

    def __init__(self, name: str, outputs: int) -> None:
        super().__init__(name, outputs, ReconstructionTally.METRICS)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared errors of ``[rows, outputs]`` each."""
        return (outputs - targets).square().mean(1)

    def tally(self) -> Tally:
        """Counts the root mean squared error."""
        return ReconstructionTally()


class Segmentation(Task):
    """The class of every pixel, by cross-entropy; a target of -1 is unknown."""

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__(name, num_classes, ConfusionTally.METRICS)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropies of ``[rows, classes, height, width]`` and ``[rows, height, width]``."""
        losses = functional.cross_entropy(outputs, targets, ignore_index=-1, reduction="none")
        return _per_row(losses, targets >= 0)

    def tally(self) -> Tally:
        """Counts intersection over union and accuracy."""
        return ConfusionTally(self.outputs)


class Depth(Task):
    """The depth of every pixel, by the absolute error; a target of 0 is unknown.

    Args:
        name: What the data set calls it.
        unit: What depths are measured in.
    """

    def __init__(self, name: str, unit: str = "") -> None:
        super().__init__(name, 1, DepthTally.metrics(unit))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Absolute errors of ``[rows, 1, height, width]`` each."""
        return _per_row((outputs - targets).abs(), targets != 0)

    def tally(self) -> Tally:
        """Counts absolute and relative errors."""
        return DepthTally()


class Normals(Task):
    """The surface normal of every pixel, by its cosine; a target of zero is unknown."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 3, NormalsTally.METRICS)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One minus the cosines of ``[rows, 3, height, width]`` each, vectors of any length."""
        return _per_row(1 - _cosines(outputs, targets), (targets != 0).any(1))

    def tally(self) -> Tally:
        """Counts angles."""
        return NormalsTally()


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of vectors along axis 1, as those of torch but in a fraction of their time."""
    lengths = [each.square().sum(1).clamp(min=1e-16).rsqrt() for each in (first, second)]
    return (first * second).sum(1) * lengths[0] * lengths[1]


def _per_row(losses: Tensor, known: Tensor) -> Tensor:
    """Losses of examples whose mean is that of all known pixels, as in the published code.

    An example of which little is known therefore counts for little.
    """
    sums = torch.where(known, losses, 0.0).flatten(1).sum(1)
    return sums * (len(sums) / known.sum().clamp(min=1))
