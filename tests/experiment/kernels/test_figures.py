"""Pictures of kernels fit few and many tasks, and say what they show."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from mtrl_ntk.experiment.kernels.figures import (
    HeatMap,
    affinity_figure,
    affinity_image,
    eigenvalue_figure,
)
from mtrl_ntk.experiment.plots.run_plots import Curve, picture
from tests.experiment.diagnoses import make_diagnosis


def names(num_tasks: int) -> list[str]:
    return [f"button-press-topdown-{index}-v3" for index in range(num_tasks)]


def heat_map(num_tasks: int, title: str = "a run\nlast") -> HeatMap:
    values = np.linspace(-0.4, 0.2, num_tasks**2).reshape(num_tasks, num_tasks)
    affinity = (values + values.T) / 2
    np.fill_diagonal(affinity, 1.0)
    return HeatMap(title, affinity, names(num_tasks), groups=[1] + [2] * (num_tasks - 1))


def curves(tasks: list[str], steps: int = 5) -> dict[str, Curve]:
    axis = np.arange(steps, dtype=float)
    return {task: Curve(axis, axis + 1.0 + place) for place, task in enumerate(tasks)}


def numbers_in(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_no_affinity_is_no_white_cell() -> None:
    panel = HeatMap("a run", np.eye(3), ["a", "b", "c"])
    figure = affinity_figure([[panel]])
    (image,) = figure.axes[0].images
    assert max(image.to_rgba(np.zeros((1, 1)))[0, 0, :3]) < 0.95
    assert figure.axes[0].patch.get_hatch()  # the diagonal


@pytest.mark.parametrize(("num_tasks", "num_rows"), [(1, 1), (2, 2), (10, 2), (50, 1)])
def test_heat_maps_fit_few_and_many_tasks(num_tasks: int, num_rows: int) -> None:
    before = dict(mpl.rcParams)
    figure = affinity_figure([[heat_map(num_tasks), heat_map(num_tasks)]] * num_rows)
    image = picture(figure)
    assert 400 <= image.width <= 2500
    assert 400 <= image.height <= 2500
    for text in [text for axes in figure.axes for text in axes.get_yticklabels()]:
        assert text.get_window_extent().x0 >= 0, "a label is cut off"
    assert dict(mpl.rcParams) == before


def test_cells_hold_their_numbers_but_the_diagonal() -> None:
    affinity = np.array([[1.0, -0.004, 0.5], [-0.004, 1.0, -0.251], [0.5, -0.251, 1.0]])
    figure = affinity_figure([[HeatMap("title", affinity, ["a", "b", "c"])]])
    assert numbers_in(figure) == [".00", ".50", ".00", "-.25", ".50", "-.25"]
    assert numbers_in(affinity_figure([[heat_map(13)]])) == []


def test_all_panels_share_the_largest_affinity_between_two_tasks_as_their_scale() -> None:
    strong = HeatMap("strong", np.array([[1.0, -0.6], [-0.6, 1.0]]), ["a", "b"])
    weak = HeatMap("weak", np.array([[1.0, 0.1], [0.1, 1.0]]), ["a", "b"])
    figure = affinity_figure([[weak, strong]])
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert limits == {(-0.6, 0.6)}
    orthogonal = HeatMap("none", np.eye(2), ["a", "b"])
    assert affinity_figure([[orthogonal]]).axes[0].images[0].get_clim() == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("groups", "borders"),
    [([], []), ([1, 1, 1, 1], []), ([3, 1, 1, 2], [1, 3]), ([1, 2, 1, 1], [])],
)
def test_lines_part_groups_that_lie_together(groups: list[int], borders: list[int]) -> None:
    panel = HeatMap("title", np.eye(4), names(4), groups)
    assert panel.borders == borders
    axes = affinity_figure([[panel]]).axes[0]
    assert len(axes.lines) == 2 * len(borders)
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ([f"{n}  {g}" for n, g in zip(names(4), groups, strict=False)] or names(4))


def test_the_picture_of_a_diagnosis_is_in_color() -> None:
    image = affinity_image("critic", make_diagnosis([["a", "b"], ["c"]]))
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20


def test_eigenvalues_have_a_row_per_network_and_a_column_per_run() -> None:
    runs = {
        "first": {"critic": curves(["a", "b"]), "actor": curves(["a", "b"])},
        "second": {"critic": curves(["b", "c"]), "actor": {}},
    }
    figure = eigenvalue_figure(runs)
    picture(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first", "second", "", ""]
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2, 0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    colors = {line.get_label(): line.get_color() for axes in figure.axes[:2] for line in axes.lines}
    assert figure.axes[0].lines[1].get_color() == figure.axes[1].lines[0].get_color()
    assert len(set(colors.values())) == 3
    assert figure.axes[0].get_yscale() == "log"


def test_a_long_title_stays_within_its_panel() -> None:
    title = "runs/mt10_quick/ntkmtl-seed1-20261122-150502/second-attempt"
    runs = {title: {"critic": curves(["a"])}, "b": {"critic": curves(["a"])}}
    figure = eigenvalue_figure(runs)
    picture(figure)
    left, right = figure.axes
    (text,) = [t for t in left.get_children() if getattr(t, "get_text", str)() == title]
    assert text.get_window_extent().x1 < right.get_window_extent().x0
