"""Pictures of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mtrl_ntk.supervised.training.plots import draw_predictions
from mtrl_ntk.supervised.training.run import SupervisedRun, train
from tests.supervised.runs import tiny


def test_a_run_leaves_pictures_of_its_logs_and_of_what_it_predicts(tmp_path: Path) -> None:
    train(tiny(tmp_path, log_every=1), quiet=True)
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names >= {"losses.png", "weights.png", "ntk.png", "predictions.png"}
    with Image.open(tmp_path / "plots" / "predictions.png") as picture:
        pixels = np.asarray(picture)
    # Six pairs of digits of 8 by 16 pixels, eight times as large, and what became of them.
    assert pixels.shape == (6 * 64, 2 * 128, 3)
    assert pixels[:, :128].std() > 50


def test_numbers_alone_are_no_picture(tmp_path: Path) -> None:
    run = SupervisedRun(tiny(tasks="sum"), quiet=True)
    assert draw_predictions(run.make_learner(), run.dataset, tmp_path) == []
    assert not [*tmp_path.iterdir()]
