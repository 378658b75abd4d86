"""Options of an evaluation that do not fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions

RUN: dict[str, Any] = {"run": Path("run")}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give DIR, the folder of a run"),
        ({**RUN, "benchmark": "MT10", "tasks": ("reach-v3",)}, "--benchmark or --tasks, not both"),
        ({**RUN, "goals": "training", "seed": 3}, "leave it out with --goals training"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EvaluationOptions(**values).check_together()


@pytest.mark.parametrize(
    "values",
    [
        RUN,
        {"checkpoint": Path("run/checkpoint")},
        {**RUN, "checkpoint": Path("best")},
        {**RUN, "seed": 3},
        {**RUN, "goals": "training", "seed": 3, "sampled": True},  # the seed of the samples
    ],
)
def test_what_fits_is_taken(values: dict[str, Any]) -> None:
    EvaluationOptions(**values).check_together()


@pytest.mark.parametrize("name", ["video", "gif", "video_strict"])
def test_each_option_of_videos_asks_for_them(name: str) -> None:
    chosen: dict[str, Any] = {name: True}
    assert EvaluationOptions(**chosen).wants_video
    assert not EvaluationOptions().wants_video
