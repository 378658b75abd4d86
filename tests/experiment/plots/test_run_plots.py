"""Plots are drawn from whatever a run has written, and from nothing else."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.plots import run_plots as plots
from mtrl_ntk.experiment.plots.run_plots import COLORS, plot_run, save, style

GROUPS = ("losses", "weights", "ntk")
COUNTERS = ("vector_steps", "env_steps", "updates", "seconds")


def names(num_tasks: int) -> list[str]:
    return [f"button-press-topdown-{index}-v3" for index in range(num_tasks)]


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def counters(row: int) -> dict[str, object]:
    return dict.fromkeys(COUNTERS, (row + 1) * 1000)


def write_training(run_dir: Path, tasks: Sequence[str], num_rows: int) -> None:
    generator = np.random.default_rng(0)
    columns = [
        f"{group}/{network}/{task}"
        for group in GROUPS
        for network in ("critic", "actor")
        for task in tasks
    ]
    rows = [
        counters(row) | {column: "" if row == 0 else generator.random() + 0.1 for column in columns}
        for row in range(num_rows)
    ]
    write_csv(run_dir / "training.csv", rows)


def write_evaluation(run_dir: Path, tasks: Sequence[str], num_rows: int) -> None:
    rows = [
        counters(row)
        | {"task": task, "success_rate": row / num_rows, "mean_return": 3.0, "episodes": 5}
        for row in range(num_rows)
        for task in (*tasks, "mean")
    ]
    write_csv(run_dir / "evaluation.csv", rows)


def assert_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert 800 <= picture.width <= 2000
        assert 450 <= picture.height <= 1000
        colors = picture.convert("RGB").getcolors()
        assert colors is not None
        assert len(colors) > 20
        assert max(colors)[1] == (255, 255, 255), "the background"
    assert 10_000 < path.stat().st_size < 200_000


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_run_of_ten_tasks_gives_four_pictures(tmp_path: Path) -> None:
    write_training(tmp_path, names(10), num_rows=100)
    write_evaluation(tmp_path, names(10), num_rows=5)
    before = dict(mpl.rcParams)
    drawn = plot_run(tmp_path)
    assert drawn == [
        tmp_path / "plots" / name
        for name in ("success.png", "weights.png", "ntk.png", "losses.png")
    ]
    for path in drawn:
        assert_picture(path)
    assert plots_folder(tmp_path) == {path.name for path in drawn}
    assert dict(mpl.rcParams) == before


def plots_folder(run_dir: Path) -> set[str]:
    folder = run_dir / "plots"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize("num_tasks", [1, 50])
def test_few_and_many_tasks_fit(tmp_path: Path, num_tasks: int) -> None:
    write_evaluation(tmp_path, names(num_tasks), num_rows=3)
    (path,) = plot_run(tmp_path)
    assert_picture(path)


@pytest.mark.parametrize("num_rows", [0, 1])
def test_too_few_rows_give_no_plot(tmp_path: Path, num_rows: int) -> None:
    write_training(tmp_path, names(3), num_rows=num_rows + 1)
    write_evaluation(tmp_path, names(3), num_rows=1)
    if num_rows == 0:
        keep_header(tmp_path / "training.csv")
        keep_header(tmp_path / "evaluation.csv")
    assert plot_run(tmp_path) == []
    assert plots_folder(tmp_path) == set()


def keep_header(path: Path) -> None:
    path.write_text(path.read_text().splitlines(keepends=True)[0])


@pytest.mark.parametrize("content", [None, "", "vector_steps,env_st"])
def test_missing_and_empty_files_give_no_plot(tmp_path: Path, content: str | None) -> None:
    for name in ("training.csv", "evaluation.csv"):
        if content is not None:
            (tmp_path / name).write_text(content)
    assert plot_run(tmp_path) == []


def test_the_half_line_of_a_killed_run_is_left_out(tmp_path: Path) -> None:
    write_evaluation(tmp_path, ["a"], num_rows=3)
    path = tmp_path / "evaluation.csv"
    path.write_text(path.read_text() + "4000,4000,4000,4000,mean,0.9")
    curves = plots._evaluation_curves(read_rows(path), "success_rate")
    assert curves["mean"].steps.tolist() == [1000, 2000, 3000]
    assert curves["mean"].values.tolist() == pytest.approx([0, 1 / 3, 2 / 3])


def test_the_success_legend_runs_from_best_to_worst() -> None:
    rows = [
        {"env_steps": str(step), "task": task, "success_rate": str(rate * step)}
        for step in (0, 1)
        for task, rate in (("bad", 0.1), ("good", 0.9), ("mean", 0.5))
    ]
    figure = plots._success_figure(rows)
    assert figure is not None
    assert texts(figure) == ["mean of tasks  50%", "good  90%", "bad  10%"]


def test_values_without_a_logarithm_are_left_out() -> None:
    values = ["0", "-1", "inf", "", "nan", "2", "3"]
    rows = [
        {"env_steps": str(step), "ntk/critic/a": value, "ntk/critic/dead": "0"}
        for step, value in enumerate(values)
    ]
    curves = plots.task_curves(rows, "ntk", "critic")
    assert {task: curve.values.tolist() for task, curve in curves.items()} == {"a": [2.0, 3.0]}
    assert plots.task_curves(rows, "ntk", "actor") == {}


def test_the_actors_loss_may_be_negative() -> None:
    rows = [{"env_steps": str(step), "losses/actor/a": str(-step)} for step in range(3)]
    assert plots.task_curves(rows, "losses", "actor")["a"].values.tolist() == [0.0, -1.0, -2.0]


def test_a_long_run_is_thinned_to_medians() -> None:
    steps = np.arange(6 * plots.MAX_POINTS, dtype=float)
    values = np.where(steps % 6 == 0, 1e9, 1.0)
    thinned = plots._thinned(plots.Curve(steps, values))
    assert thinned.steps[:2].tolist() == [2.5, 8.5]
    assert thinned.values.tolist() == [1.0] * plots.MAX_POINTS


def test_each_of_fifty_tasks_has_its_own_line() -> None:
    styles = [plots.style(index) for index in range(50)]
    assert len({(style["color"], style["linestyle"]) for style in styles}) == 50


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.1, 4.9), (0.02, 5.0)])
def test_the_log_axis_always_has_labels(weights: tuple[float, float]) -> None:
    rows = [
        {"env_steps": str(step), "weights/critic/a": str(value)}
        for step, value in enumerate(weights)
    ]
    figure = plots.figure_by_part(rows, "weights", "Task weights")
    assert figure is not None
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    low, high = figure.axes[0].get_ylim()
    labelled = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
    assert len(labelled) >= 2 - math.isclose(*weights)


def test_one_colour_at_most_is_a_grey() -> None:
    parts = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in COLORS]
    assert sum(max(part) - min(part) < 30 for part in parts) <= 1


def test_the_axis_of_success_ends_at_its_range() -> None:
    rows = [
        {"env_steps": str(step), "task": task, "success_rate": "1"}
        for step in (1, 2)
        for task in ("reach-v3", "mean")
    ]
    figure = plots._success_figure(rows)
    assert figure is not None
    assert figure.axes[0].get_ylim() == (0, 1)
    assert not any(line.get_clip_on() for line in figure.axes[0].lines)


def test_a_line_that_hides_under_another_keeps_its_colour_in_the_legend(tmp_path: Path) -> None:
    figure = Figure(figsize=(9, 5), dpi=110)
    axes = figure.subplots()
    zigzag = np.random.default_rng(0).random((len(COLORS), 12))
    for index, values in enumerate(zigzag):
        # Half of the lines hide under the last one.
        axes.plot(values * (index % 2), label=str(index), **style(index))
    axes.legend()
    save(figure, tmp_path / "lines.png")
    with Image.open(tmp_path / "lines.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for color in COLORS:
        wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(pixels - wanted).max(1).min() <= 8, color
