"""Tables of a report."""

from __future__ import annotations

from pathlib import Path

from mtrl_ntk.experiment.reports.findings import find
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.plots import aggregates_figure
from mtrl_ntk.experiment.reports.styles import method_styles
from mtrl_ntk.experiment.reports.tables import aggregate_names, success_table


def test_metrics_choose_columns_and_panels(runs: Path) -> None:
    options = ReportOptions(resamples=50, metrics=("gap",))
    findings = find([runs / "equal-seed1", runs / "pcgrad-seed1"], options)
    table = success_table(findings.summaries, findings.comparison, options.metrics)
    assert table.columns == ["method", "runs", "success", "optimality gap"]
    styles = method_styles(findings.methods)
    panels = aggregates_figure(findings.summaries, styles, aggregate_names(options.metrics)).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["Optimality gap (less is better)"]
