"""Random changes of examples of dense prediction, as in the published code."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from mtrl_ntk.supervised.datasets.dataset import Examples

_ZOOMS = (1.0, 1.2, 1.5)


def zoomed_and_flipped(examples: Examples, generator: torch.Generator) -> Examples:
    """Each example zoomed 1, 1.2 or 1.5 times at a random place, and mirrored or not.

    What is zoomed is nearer by as much. Unlike in the published code normals are not interpolated,
    which would mix those of different surfaces and those that are unknown.

    Args:
        examples: Images ``[rows, 3, height, width]``, with targets ``segmentation``, ``depth`` and
            perhaps ``normals``.
        generator: What the changes are drawn from.
    """
    assert isinstance(examples.inputs, Tensor)
    rows = [
        _changed(
            {"image": image} | {name: t[row] for name, t in examples.targets.items()}, generator
        )
        for row, image in enumerate(examples.inputs)
    ]
    parts = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return Examples(parts.pop("image"), parts)


def _changed(parts: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """One example, its parts ``[..., height, width]``, changed."""
    size = parts["image"].shape[-2:]
    zoom = _ZOOMS[_drawn(len(_ZOOMS), generator)]
    height, width = (int(side / zoom) for side in size)
    top, left = _drawn(size[0] - height + 1, generator), _drawn(size[1] - width + 1, generator)
    changed = {
        name: _resized(part[..., top : top + height, left : left + width], size, name == "image")
        for name, part in parts.items()
    }
    changed["depth"] = changed["depth"] / zoom
    if _drawn(2, generator):
        changed = {name: part.flip(-1) for name, part in changed.items()}
        if "normals" in changed:
            changed["normals"] = changed["normals"] * torch.tensor([-1.0, 1, 1]).view(3, 1, 1)
    return changed


def _resized(part: Tensor, size: torch.Size, is_smooth: bool) -> Tensor:
    if part.shape[-2:] == size:
        return part
    if is_smooth:
        image = part[None]
        return functional.interpolate(image, size, mode="bilinear", align_corners=True)[0]
    rows, columns = (
        torch.arange(whole) * cut // whole for whole, cut in zip(size, part.shape[-2:], strict=True)
    )
    return part[..., rows[:, None], columns]


def _drawn(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))
