"""Weights and eigenvalues over training: the runs of a method put together, and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtrl_ntk.experiment.plots.run_plots import Curve
from mtrl_ntk.experiment.reports.data import Method, Run, read_run
from mtrl_ntk.experiment.reports.traces import traced, traces, traces_figure
from tests.experiment.run_folders import TASKS, TOTAL, make_config, write_run_folder

CURVE = {TOTAL: [0.5] * 3}


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> Method:
    """Seeds 1 and 4, whose weights are one and four times place * 100 / step."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        read_run(write_run_folder(folder / str(seed), make_config(seed=seed), CURVE))
        for seed in (1, 4)
    ]
    return Method("equal", tuple(runs))


def with_weights(run: Run, curves: dict[str, Curve]) -> Run:
    return replace(run, logged={**run.logged, ("weights", "critic"): curves})


def test_a_trace_is_the_geometric_mean_between_the_extremes(method: Method) -> None:
    trace = traces(method, "weights", "critic")[TASKS[2]]
    steps = np.array([200, 400, 600])
    assert trace.steps.tolist() == (3 * steps).tolist()
    assert trace.low == pytest.approx(3 * 100 / steps)
    assert trace.high == pytest.approx(4 * trace.low)
    assert trace.middle == pytest.approx(2 * trace.low)
    eigenvalues = traces(method, "ntk", "actor")[TASKS[2]]
    assert eigenvalues.middle == pytest.approx(1 / trace.middle)


def test_runs_with_other_intervals_of_the_log_meet_where_both_have_values(method: Method) -> None:
    first, second = method.runs
    few = Curve(np.array([10.0, 30.0]), np.array([1.0, 100.0]))
    many = Curve(np.array([0.0, 10.0, 20.0, 30.0, 40.0]), np.array([1.0, 1.0, 10.0, 100.0, 5.0]))
    runs = (with_weights(first, {TASKS[0]: few}), with_weights(second, {TASKS[0]: many}))
    trace = traces(replace(method, runs=runs), "weights", "critic")[TASKS[0]]
    assert trace.steps.tolist() == [10, 30]
    assert trace.middle == pytest.approx([1, 100])


def test_a_task_that_a_run_does_not_log_is_left_out(method: Method) -> None:
    first, second = method.runs
    own = {TASKS[0]: first.logged["weights", "critic"][TASKS[0]]}
    lacking = replace(method, runs=(with_weights(first, own), second))
    assert list(traces(lacking, "weights", "critic")) == [TASKS[0]]
    none = Method("none", (replace(first, logged={}),))
    assert list(traced([method, none], "weights")) == ["equal"]


def test_there_is_a_panel_for_each_method_and_network(method: Method) -> None:
    other = replace(method, name="other", runs=(with_weights(method.runs[0], {}),))
    figure = traces_figure(traced([method, other], "weights"), "weights")
    panels = [(axes.get_title(loc="left"), len(axes.lines)) for axes in figure.axes]
    assert panels == [
        ("equal, critic", 3),
        ("equal, actor", 3),
        ("other, critic", 0),
        ("other, actor", 3),
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(TASKS)
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    figure.draw_without_rendering()


def test_long_names_do_not_run_into_the_next_panel(tmp_path: Path) -> None:
    config = make_config(method="equal", seed=1)
    run = read_run(write_run_folder(tmp_path / "run", config, {TOTAL: [0] * 3}))
    method = Method("equal, " + ", ".join(["learning_rate 0.001"] * 3), (run,))
    figure = traces_figure(traced([method], "weights"), "weights")
    figure.draw_without_rendering()
    first, second = (vars(axes)["_left_title"].get_window_extent() for axes in figure.axes)
    assert first.x1 < second.x0
