"""Scans: depths against rays that MuJoCo casts, and normals against geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing

import mujoco
import numpy as np
import pytest
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl_ntk.experiment.videos.opengl import find_backend, using
from mtrl_ntk.rl.suites.metaworld.scanner import CLASSES, Scan, Scanner, Viewpoint, normals_of
from mtrl_ntk.rl.suites.metaworld.simulation import make_sim, set_goal

WIDTH, HEIGHT = 48, 32
VIEW = Viewpoint((0.05, 0.6, 0.05), 1.2, 200.0, -35.0)


@pytest.fixture(scope="module")
def sim() -> SawyerXYZEnv:
    env = make_sim("drawer-open-v3")
    set_goal(env, np.array([0.05, 0.9, 0.0]))
    env.reset()
    return env


@pytest.fixture(scope="module")
def scan(sim: SawyerXYZEnv) -> Iterator[Scan]:
    with using(find_backend()), closing(Scanner(sim, WIDTH, HEIGHT)) as scanner:
        yield scanner.scan(VIEW)


def focal_length(sim: SawyerXYZEnv) -> float:
    return HEIGHT / 2 / math.tan(math.radians(sim.model.vis.global_.fovy) / 2)


def axes() -> NDArray[np.float64]:
    """The camera's axes in the world as columns: right, up, backwards."""
    around, above = math.radians(VIEW.azimuth), math.radians(VIEW.elevation)
    ahead = np.array(
        [math.cos(around) * math.cos(above), math.sin(around) * math.cos(above), math.sin(above)]
    )
    right = np.cross(ahead, [0, 0, 1])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, ahead), -ahead], axis=1)


def test_depths_are_those_that_rays_find(sim: SawyerXYZEnv, scan: Scan) -> None:
    camera = np.array(VIEW.target) + VIEW.distance * axes()[:, 2]
    agreed = 0
    pixels = [(row, column) for row in range(1, HEIGHT, 5) for column in range(1, WIDTH, 5)]
    for row, column in pixels:
        x, y = column - (WIDTH - 1) / 2, (HEIGHT - 1) / 2 - row
        ray = axes() @ np.array([x, y, -focal_length(sim)]) / focal_length(sim)
        geom = np.zeros(1, np.int32)
        groups = np.array([1, 1, 1, 0, 0, 0], np.uint8)  # those that are drawn
        depth = mujoco.mj_ray(sim.model, sim.data, camera, ray, groups, 1, -1, geom)
        agreed += abs(max(depth, 0.0) - scan.depths[row, column]) < 1e-3  # -1 for nothing
    assert agreed >= 0.97 * len(pixels)  # a ray may pass an edge on its other side


def test_normals_are_units_in_the_axes_of_the_camera(scan: Scan) -> None:
    lengths = np.linalg.norm(scan.normals, axis=-1)
    known = lengths > 0
    np.testing.assert_allclose(lengths[known], 1.0, atol=1e-6)
    assert known[scan.classes >= 0].mean() > 0.97
    on_table = scan.normals[(scan.classes == CLASSES.index("table")) & known]
    upright = np.isclose(on_table @ axes()[2], 1.0, atol=1e-3)
    assert upright.mean() > 0.9  # all but the legs and the sides


def test_classes_are_what_is_in_the_task(scan: Scan) -> None:
    seen = {CLASSES[index] for index in np.unique(scan.classes[scan.classes >= 0])}
    assert seen - {"gripper"} == {"floor", "rim", "table", "robot", "drawer"}
    assert scan.picture.shape == (HEIGHT, WIDTH, 3)
    # The drawer is green, and the arm red.
    green = scan.picture[scan.classes == CLASSES.index("drawer")].mean(0)
    red = scan.picture[scan.classes == CLASSES.index("robot")].mean(0)
    assert green.argmax() == 1
    assert red.argmax() == 0


def test_normals_of_a_plane_and_a_sphere_are_known() -> None:
    focal, size = 40.0, 41
    right, down = np.meshgrid(np.arange(size), np.arange(size))
    x, y = (right - size // 2) / focal, (size // 2 - down) / focal
    normal = np.array([0.3, 0.5, 0.8]) / np.linalg.norm([0.3, 0.5, 0.8])
    plane = 2 * normal[2] / (normal[2] - normal[0] * x - normal[1] * y)  # through (0, 0, -2)
    one = np.zeros((size, size), int)
    found = normals_of(plane, one, focal)
    np.testing.assert_allclose(found, np.broadcast_to(normal, found.shape), atol=1e-9)

    rays = np.stack([x, y, -np.ones_like(x)], axis=-1)
    centre, radius = np.array([0.0, 0.0, -3.0]), 1.0
    along, squares = rays @ centre, (rays**2).sum(-1)
    below = along**2 - squares * (centre @ centre - radius**2)
    hit = below > 0.5  # all but the rim, where normals turn fast
    depths = (along - np.sqrt(np.where(hit, below, 0))) / squares
    true = (rays * depths[..., None] - centre) / radius
    found = normals_of(np.where(hit, depths, 0.0), np.where(hit, 0, -1), focal)
    assert hit.sum() > 200
    assert (found * true).sum(-1)[hit].min() > math.cos(math.radians(4))
    assert not found[~hit].any()


def test_differences_stay_within_a_geometry() -> None:
    depths = np.where(np.arange(6) < 3, 1.0, 2.0) * np.ones((4, 1))
    apart = np.where(np.arange(6) < 3, 0, 1) * np.ones((4, 1), int)
    np.testing.assert_allclose(normals_of(depths, apart, 10.0)[..., 2], 1.0)
    alone = np.arange(24).reshape(4, 6)
    assert not normals_of(depths, alone, 10.0).any()
