"""Pictures of a report."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from mtrl_ntk.experiment.plots.run_plots import save_both
from mtrl_ntk.experiment.reports.anchors import find_anchors
from mtrl_ntk.experiment.reports.data import group_runs, read_run
from mtrl_ntk.experiment.reports.plots import curves_figure
from mtrl_ntk.experiment.reports.styles import method_styles


def test_pictures_are_the_same_twice(tmp_path: Path) -> None:
    figure = Figure(layout="constrained")
    figure.subplots().plot([1, 2])
    for name in ("a", "b"):
        save_both(figure, tmp_path / name)
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_published_numbers_are_lines_under_a_heading_of_their_own(runs: Path) -> None:
    methods = group_runs([read_run(runs / f"{name}-seed1") for name in ("equal", "ntkmtl")])
    styles = method_styles(methods)
    figure = curves_figure(methods, styles, find_anchors(["table4"]))
    dotted = {
        line.get_label(): (line.get_ydata(), line.get_color())
        for line in figure.axes[0].lines
        if line.get_linestyle() == "--"
    }
    assert dotted == {
        "NTKMTL  96%": ([0.96, 0.96], styles["ntkmtl"]["color"]),
        "MTL SAC  49%": ([0.49, 0.49], styles["equal"]["color"]),
    }
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[2].startswith("Published under another protocol")
    assert "horizon 150" in " ".join(texts[2].split())
