"""Pictures of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from mtrl_ntk.experiment.plots.run_plots import save_both
from mtrl_ntk.experiment.reports.anchors import find_anchors
from mtrl_ntk.experiment.reports.data import Method, group_runs, read_run
from mtrl_ntk.experiment.reports.plots import (
    aggregates_figure,
    curves_figure,
    profiles_figure,
    task_curves_figure,
    tasks_figure,
)
from mtrl_ntk.experiment.reports.statistics import Bootstrap
from mtrl_ntk.experiment.reports.styles import method_styles
from mtrl_ntk.experiment.reports.summary import Summary, budget, summarize
from tests.experiment.reports.conftest import LEVELS
from tests.experiment.run_folders import TASKS, TOTAL, make_config, write_run_folder


def summaries_of(methods: Sequence[Method]) -> list[Summary]:
    until = budget(methods)
    return [summarize(method, 1, Bootstrap(resamples=10), until) for method in methods]


def test_pictures_are_the_same_twice(tmp_path: Path) -> None:
    figure = Figure(layout="constrained")
    figure.subplots().plot([1, 2])
    for name in ("a", "b"):
        save_both(figure, tmp_path / name)
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_each_set_of_published_numbers_is_one_line_under_a_heading_of_its_own(runs: Path) -> None:
    methods = group_runs([read_run(runs / f"{name}-seed1") for name in ("equal", "ntkmtl")])
    styles = method_styles(methods)
    figure = curves_figure(methods, styles, find_anchors(["all"]))
    level = [line for line in figure.axes[0].lines if np.ptp(np.asarray(line.get_ydata())) == 0]
    drawn = [(line.get_label(), np.asarray(line.get_ydata())[0]) for line in level]
    assert drawn == [
        ("NTKMTL  96%", 0.96),
        ("Soft-Modules  71%", 0.714),
        ("Soft-Modules  85%", 0.849),
    ]
    assert level[0].get_color() == styles["ntkmtl"]["color"]
    assert len({line.get_color() for line in level[1:]}) == 1  # told apart by their dashes
    assert len({str(vars(line)["_unscaled_dash_pattern"]) for line in level}) == 3
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[2].startswith("Published under another protocol")
    assert "horizon 150" in " ".join(texts[2].split())


def test_a_long_legend_is_inside_the_picture(runs: Path) -> None:
    methods = group_runs([read_run(runs / f"{name}-seed1") for name in LEVELS])
    figure = curves_figure(methods, method_styles(methods), find_anchors(["all"]))
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y0 >= 0


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
@pytest.mark.parametrize("rate", [0.0, 0.5, 0.98, 1.0])
def test_no_axis_of_rates_leaves_their_range(
    tmp_path: Path, rate: float, seeds: tuple[int, ...]
) -> None:
    runs = [
        write_run_folder(
            tmp_path / str(seed),
            make_config(method="equal", seed=seed),
            {step: [rate, rate, min(rate + 0.02, 1)] for step in (500, TOTAL)},
        )
        for seed in seeds
    ]
    methods = group_runs([read_run(run) for run in runs])
    summaries = summaries_of(methods)
    styles = method_styles(methods)
    curves = curves_figure(methods, styles).axes[0]
    profiles = profiles_figure(methods, styles).axes[0]
    panels = aggregates_figure(summaries, styles, ["success", "iqm", "median", "gap"]).axes
    by_task = task_curves_figure(methods, styles).axes[0]
    limits = [curves.get_ylim(), by_task.get_ylim(), profiles.get_xlim(), profiles.get_ylim()]
    for low, high in limits + [axes.get_xlim() for axes in panels]:
        assert 0 <= low < high <= 1


def test_every_task_has_a_panel_with_the_methods_that_have_it(tmp_path: Path) -> None:
    sets = {"equal": TASKS, "pcgrad": TASKS[1:]}
    for name, tasks in sets.items():
        config = make_config(method=name, tasks=list(tasks))
        write_run_folder(tmp_path / name, config, {500: [0] * len(tasks), TOTAL: [1] * len(tasks)})
    methods = group_runs([read_run(tmp_path / name) for name in sets])
    figure = task_curves_figure(methods, method_styles(methods))
    panels = {axes.get_title(loc="left"): len(axes.lines) for axes in figure.axes}
    assert panels == {TASKS[0]: 1, TASKS[1]: 2, TASKS[2]: 2}


def test_a_rate_of_zero_is_no_white_cell(tmp_path: Path) -> None:
    runs = {"equal": TASKS, "pcgrad": TASKS[:2]}
    paths = [
        write_run_folder(
            tmp_path / name, make_config(method=name, tasks=list(tasks)), {TOTAL: [0] * len(tasks)}
        )
        for name, tasks in runs.items()
    ]
    methods = group_runs([read_run(path) for path in paths])
    figure = tasks_figure(summaries_of(methods))
    (cells,) = figure.axes[0].collections
    figure.draw_without_rendering()
    colors = np.asarray(cells.get_facecolor())
    assert colors[0, :3].min() < 0.95
    assert colors[-1, 3] == 0
    assert figure.axes[0].patch.get_hatch()
