"""Pictures of one supervised run: of its CSV files, and of what its network predicts."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from mtrl_ntk.experiment.files.atomic import replacing
from mtrl_ntk.experiment.files.csv_files import read_rows
from mtrl_ntk.experiment.files.layout import PLOTS, TRAINING_CSV
from mtrl_ntk.experiment.plots.run_plots import Axis, figure_by_part, save
from mtrl_ntk.supervised.datasets.dataset import Dataset
from mtrl_ntk.supervised.pictures import draw
from mtrl_ntk.supervised.scores import PART, TRUNK
from mtrl_ntk.supervised.training.learner import Learner

_MOST_EXAMPLES = 6
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


def draw_predictions(learner: Learner, dataset: Dataset, run_dir: Path) -> list[Path]:
    """Draws what a network predicts of a few examples that results are measured on.

    Returns:
        ``predictions.png`` in the folder ``plots`` of the run; nothing if no task is a picture.
    """
    split = dataset.splits[-1]
    count = min(_MOST_EXAMPLES, dataset.size(split))
    spread = [index * dataset.size(split) // count for index in range(count)]
    examples = dataset.batch(split, spread).to(learner.device)
    learner.network.eval()
    with torch.no_grad():
        pixels = draw(examples, learner.network(examples.inputs), learner.tasks)
    if pixels is None:
        return []
    path = run_dir / PLOTS / "predictions.png"
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as unfinished:
        Image.fromarray(pixels).save(unfinished)
    return [path]
