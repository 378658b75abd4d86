"""Values of options, as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.experiment.config import (
    read,
)
from mtrl_ntk.experiment.training.command import load


@pytest.mark.parametrize(
    "arguments",
    [
        ["reach-v3,push-v3"],
        ["reach-v3, push-v3"],
        ["reach-v3,", "push-v3"],
        ["reach-v3", "push-v3"],
    ],
)
def test_tasks_may_be_separated_by_commas_and_spaces(arguments: list[str]) -> None:
    config = load(["--tasks", *arguments, "--seed", "2"], "train_mt10")
    assert config.env.tasks == ("reach-v3", "push-v3")


@pytest.mark.parametrize("text", ["3e-4", "0.0003", "'3e-4'", "3.0e-4"])
def test_numbers_of_a_file_may_be_written_without_a_dot(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rate.yaml"
    file.write_text(f"learning_rate: {text}\n")
    assert read(file).sac.learning_rate == 3e-4


@pytest.mark.parametrize("text", ["20000", "20_000", "2e4", "20000.0"])
def test_whole_numbers_may_be_written_in_any_way(tmp_path: Path, text: str) -> None:
    file = tmp_path / "steps.yaml"
    file.write_text(f"total_steps: {text}\n")
    steps = [read(file).loop.total_steps, load(["--total-steps", text], "x").loop.total_steps]
    assert [(type(count), count) for count in steps] == [(int, 20_000)] * 2


def test_none_unsets_an_option_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "entropy.yaml"
    file.write_text("target_entropy: -2\n")
    config = load(["--config", str(file), "--target-entropy", "none"], "train_mt10")
    assert config.sac.target_entropy is None
