"""Pictures of what a network predicts, beside what is right."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mtrl_ntk.supervised.datasets.dataset import Examples
from mtrl_ntk.supervised.tasks import Depth, Normals, Reconstruction, Segmentation, Task

_GOLDEN_RATIO = 0.618034
_FAR = 0.95
"""Share of what is nearer than what is drawn darkest."""
_LEAST_HEIGHT = 64
"""Pixels of an example; smaller ones are enlarged."""


def draw(
    examples: Examples, outputs: Mapping[str, Tensor], tasks: Sequence[Task]
) -> NDArray[np.uint8] | None:
    """Draws a row for each example: its image, then target and prediction of each task.

    Tasks whose targets are no images are left out. What is unknown is black.

    Args:
        examples: Images with targets.
        outputs: A network's outputs by task.
        tasks: The tasks.

    Returns:
        ``[height, width, 3]``; None if no task is left.
    """
    images = examples.inputs
    if not isinstance(images, Tensor):
        return None
    columns = [images.expand(-1, 3, -1, -1)]
    for task in tasks:
        target, output = examples.targets[task.name], outputs[task.name]
        columns += _coloured(task, target, output, images)
    if len(columns) == 1:
        return None
    drawn = torch.cat([column.float().cpu() for column in columns], dim=-1)
    zoom = -(-_LEAST_HEIGHT // drawn.shape[-2])
    pixels = drawn.clamp(0, 1).mul(255).round().byte().movedim(1, -1).flatten(0, 1)
    return pixels.numpy().repeat(zoom, axis=0).repeat(zoom, axis=1)


def _coloured(task: Task, target: Tensor, output: Tensor, images: Tensor) -> list[Tensor]:
    """Target and prediction as ``[rows, 3, height, width]``; none if they are no pictures."""
    if isinstance(task, Segmentation):
        return [_of_classes(labels, task.outputs) for labels in (target, output.argmax(1))]
    if isinstance(task, Depth):
        known_depths = target[target != 0]
        farthest = known_depths.quantile(_FAR) if len(known_depths) else 1.0
        known = (target != 0, torch.ones_like(target))
        greys = [(1 - 0.9 * depth / farthest) for depth in (target, output)]
        return [
            (grey * seen).expand(-1, 3, -1, -1) for grey, seen in zip(greys, known, strict=True)
        ]
    if isinstance(task, Normals):
        known = ((target != 0).any(1, keepdim=True), torch.ones_like(target[:, :1]))
        units = [(functional.normalize(normals, dim=1) + 1) / 2 for normals in (target, output)]
        return [unit * seen for unit, seen in zip(units, known, strict=True)]
    if isinstance(task, Reconstruction) and target.numel() == images.numel():
        return [output.view_as(images).expand(-1, 3, -1, -1)]
    return []


def _of_classes(labels: Tensor, num_classes: int) -> Tensor:
    """A colour for each class, of hues far from each other; black for -1."""
    hues = [(index * _GOLDEN_RATIO) % 1 for index in range(num_classes)]
    colours = [colorsys.hsv_to_rgb(hue, 0.75, 0.6 + 0.4 * (i % 2)) for i, hue in enumerate(hues)]
    palette = torch.tensor([*colours, (0.0, 0.0, 0.0)])
    return palette[labels.cpu()].movedim(-1, 1)
