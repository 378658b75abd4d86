"""Options of a report that bounds cannot check."""

from __future__ import annotations

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.reports.options import METRICS, ReportOptions


def test_any_metrics_can_be_chosen() -> None:
    for metric in METRICS:
        assert ReportOptions(metrics=(metric,)).metrics == (metric,)


@pytest.mark.parametrize("metrics", [(), ("mean",), ("success", "IQM")])
def test_other_metrics_are_refused_with_those_there_are(metrics: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"metrics is .*; it must be some of success, iqm"):
        ReportOptions(metrics=metrics)


def test_what_is_evaluated_is_the_end_of_runs() -> None:
    with pytest.raises(ConfigError, match="leave out until"):
        ReportOptions(until=500, evaluate=True)
