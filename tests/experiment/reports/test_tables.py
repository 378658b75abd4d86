"""Tables of a report."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from mtrl_ntk.experiment.reports.data import Method, group_runs, read_run
from mtrl_ntk.experiment.reports.findings import find
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.reports.plots import aggregates_figure
from mtrl_ntk.experiment.reports.styles import method_styles
from mtrl_ntk.experiment.reports.tables import (
    aggregate_names,
    runs_table,
    settings_table,
    success_table,
)
from tests.experiment.run_folders import TOTAL, make_config, write_run_folder, write_unseen


def test_metrics_choose_columns_and_panels(runs: Path) -> None:
    options = ReportOptions(resamples=50, metrics=("gap",))
    findings = find([runs / "equal-seed1", runs / "pcgrad-seed1"], options)
    table = success_table(findings.summaries, findings.comparison, options.metrics)
    assert table.columns == ["method", "runs", "success", "optimality gap"]
    styles = method_styles(findings.methods)
    panels = aggregates_figure(findings.summaries, styles, aggregate_names(options.metrics)).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["Optimality gap (less is better)"]


def test_links_lead_to_what_lies_in_the_runs_folder(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "my runs" / "#1", make_config(), {TOTAL: [1.0] * 3})
    for name in ("plots/success.png", "videos/step-2.mp4", "evaluations/now/videos/mosaic.mp4"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).touch()
    write_unseen(run, [1.0] * 3)
    out = tmp_path / "out" / "report"
    (row,) = runs_table([Method("equal", (read_run(run),))], out).rows
    folders, files = row[0], row[-1]
    assert isinstance(folders, tuple)
    assert isinstance(files, tuple)
    (folder,) = folders
    assert (out / unquote(folder.target)).resolve() == run
    targets = {link.text: out / unquote(link.target) for link in files}
    assert list(targets) == ["settings", "success", "step-2", "unseen goals", "video"]
    assert all(target.resolve().is_file() for target in targets.values())


def test_settings_that_differ_stand_beside_each_other(tmp_path: Path) -> None:
    configs = [make_config(width=64), make_config(width=128), make_config(width=64, seed=2)]
    folders = [
        write_run_folder(tmp_path / str(place), config, {TOTAL: [1.0] * 3})
        for place, config in enumerate(configs)
    ]
    methods = group_runs([read_run(folder) for folder in folders])
    table = settings_table(methods)
    assert table.columns == ["setting", "ntkmtl, width 64", "ntkmtl, width 128"]
    assert table.rows == [["width", "64", "128"]]
    assert settings_table(methods[:1]).rows == []
