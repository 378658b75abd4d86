"""Random changes of examples: targets go where the image goes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtrl_ntk.supervised.datasets.augmentation import zoomed_and_flipped
from mtrl_ntk.supervised.datasets.dataset import Examples

ROWS, HEIGHT, WIDTH = 24, 12, 18


@pytest.fixture
def examples() -> Examples:
    """A ramp to the right, with targets that say the same."""
    ramp = torch.arange(1.0, WIDTH + 1).expand(ROWS, 1, HEIGHT, WIDTH)
    normals = torch.tensor([0.6, 0.0, 0.8]).view(3, 1, 1).expand(ROWS, 3, HEIGHT, WIDTH)
    return Examples(ramp, {"segmentation": ramp[:, 0].long(), "depth": ramp, "normals": normals})


def changed(examples: Examples, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    found = zoomed_and_flipped(examples, torch.Generator().manual_seed(seed))
    assert isinstance(found.inputs, Tensor)
    return found.inputs, found.targets


def test_targets_go_where_the_image_goes(examples: Examples) -> None:
    images, targets = changed(examples)
    labels = targets["segmentation"]
    assert images.shape == targets["depth"].shape == (ROWS, 1, HEIGHT, WIDTH)
    assert labels.dtype == torch.int64
    assert float((images[:, 0] - labels).abs().max()) <= 1.0
    zooms = labels / targets["depth"][:, 0]
    assert {round(float(zoom), 3) for zoom in zooms.flatten()} == {1.0, 1.2, 1.5}
    is_mirrored = labels[:, 0, 0] > labels[:, 0, -1]
    assert 0 < int(is_mirrored.sum()) < ROWS
    signs = targets["normals"][:, 0, 0, 0] < 0
    assert torch.equal(signs, is_mirrored)
    assert torch.equal(targets["normals"][:, 2], examples.targets["normals"][:, 2])


def test_changes_are_those_of_the_generator(examples: Examples) -> None:
    assert torch.equal(changed(examples, 1)[0], changed(examples, 1)[0])
    assert not torch.equal(changed(examples, 1)[0], changed(examples, 2)[0])


def test_normals_are_not_needed(examples: Examples) -> None:
    del examples.targets["normals"]
    assert set(changed(examples)[1]) == {"segmentation", "depth"}
