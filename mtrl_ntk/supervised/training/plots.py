"""Pictures of one supervised run, drawn from its CSV files."""

from __future__ import annotations

from pathlib import Path

from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.layout import PLOTS, TRAINING_CSV
from mtrl_ntk.experiment.plots.run_plots import Axis, figure_by_part, save
from mtrl_ntk.supervised.scores import PART, TRUNK

UPDATES = Axis("updates", "updates")
_FIGURES = {
    "losses": ("losses", "Losses while training", PART),
    "weights": ("weights", "Task weights", PART),
    "ntk": ("ntk", "Largest eigenvalues of the method's kernels", PART),
    "ntk_trunk": ("ntk", "Largest NTK eigenvalues in the trunk", TRUNK),
}


def plot_supervised(run_dir: Path) -> list[Path]:
    """Draws the plots of a run into its folder ``plots``.

    One without at least two points to connect is left out.

    Args:
        run_dir: Folder with ``training.csv``.

    Returns:
        Those of ``losses.png``, ``weights.png``, ``ntk.png`` and ``ntk_trunk.png`` that were drawn.
    """
    rows = read_rows(run_dir / TRAINING_CSV, UPDATES.column)
    figures = {
        run_dir / PLOTS / f"{name}.png": figure_by_part(rows, group, title, (part,), UPDATES)
        for name, (group, title, part) in _FIGURES.items()
    }
    drawn = {path: figure for path, figure in figures.items() if figure is not None}
    for path, figure in drawn.items():
        path.parent.mkdir(exist_ok=True)
        save(figure, path)
    return [*drawn]
