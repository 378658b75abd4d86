"""Pictures of predictions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtrl_ntk.supervised.datasets.dataset import Examples
from mtrl_ntk.supervised.pictures import draw
from mtrl_ntk.supervised.tasks import (
    Depth,
    Normals,
    Reconstruction,
    Regression,
    Segmentation,
    Task,
)

ROWS, HEIGHT, WIDTH = 2, 64, 48
TASKS: list[Task] = [Segmentation("classes", 5), Depth("depth"), Normals("normals")]


def dense() -> tuple[Examples, dict[str, Tensor]]:
    """Predictions that are right wherever something is known."""
    known = torch.rand(ROWS, HEIGHT, WIDTH) > 0.2
    labels = torch.where(known, torch.randint(5, known.shape), -1)
    depths = (1 + torch.rand(ROWS, 1, HEIGHT, WIDTH)) * known[:, None]
    normals = functional.normalize(torch.randn(ROWS, 3, HEIGHT, WIDTH), dim=1) * known[:, None]
    targets = {"classes": labels, "depth": depths, "normals": normals}
    scores = functional.one_hot(labels.clamp(min=0), 5).movedim(-1, 1).float()
    outputs = {"classes": scores, "depth": depths, "normals": 3 * normals}
    return Examples(torch.rand(ROWS, 3, HEIGHT, WIDTH), targets), outputs


def columns(picture: np.ndarray) -> list[np.ndarray]:
    return np.split(picture, picture.shape[1] // WIDTH, axis=1)


def test_each_row_has_the_image_and_what_is_right_beside_what_is_predicted() -> None:
    examples, outputs = dense()
    picture = draw(examples, outputs, TASKS)
    assert picture is not None
    assert picture.shape == (ROWS * HEIGHT, 7 * WIDTH, 3)
    image, *pairs = columns(picture)
    assert isinstance(examples.inputs, Tensor)
    wanted = examples.inputs.movedim(1, -1).flatten(0, 1) * 255
    np.testing.assert_allclose(image, wanted, atol=0.51)
    known = (examples.targets["classes"] >= 0).flatten(0, 1).numpy()
    for target, prediction in zip(pairs[::2], pairs[1::2], strict=True):
        assert not target[~known].any()
        np.testing.assert_array_equal(target[known], prediction[known])


def test_classes_have_colours_of_their_own_and_what_is_near_is_bright() -> None:
    examples, outputs = dense()
    picture = draw(examples, outputs, TASKS)
    assert picture is not None
    _, classes, _, depths, *_ = columns(picture)
    assert len(np.unique(classes.reshape(-1, 3), axis=0)) == 6
    known = examples.targets["depth"][:, 0].flatten(0, 1).numpy()
    assert np.corrcoef(known[known > 0], depths[known > 0][:, 0])[0, 1] < -0.99


def test_where_nothing_is_known_what_is_right_is_black() -> None:
    examples, outputs = dense()
    nothing = {name: torch.zeros_like(target) for name, target in examples.targets.items()}
    nothing["classes"] -= 1
    picture = draw(Examples(examples.inputs, nothing), outputs, TASKS)
    assert picture is not None
    assert not any(target.any() for target in columns(picture)[1::2])


def test_a_reconstruction_is_drawn_beside_its_image_and_small_ones_are_enlarged() -> None:
    images, number = torch.rand(ROWS, 1, 8, 16), Regression("sum")
    targets = {"itself": images.flatten(1), "sum": torch.zeros(ROWS)}
    outputs = {"itself": images.flatten(1), "sum": torch.zeros(ROWS, 1)}
    picture = draw(Examples(images, targets), outputs, [number, Reconstruction("itself", 128)])
    assert picture is not None
    assert picture.shape == (ROWS * 64, 2 * 128, 3)
    np.testing.assert_array_equal(picture[:, :128], picture[:, 128:])


def test_numbers_are_no_pictures() -> None:
    numbers = {"sum": torch.zeros(ROWS)}
    outputs = {"sum": torch.zeros(ROWS, 1)}
    for inputs in (torch.rand(ROWS, 1, 8, 8), {"atoms": torch.zeros(ROWS)}):
        assert draw(Examples(inputs, numbers), outputs, [Regression("sum")]) is None
