"""Policies that come with the package: small, without anybody's paths, and as good as is said."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.agents import load_trained
from mtrl_ntk.experiment.checkpoints.checkpoint import load_checkpoint
from mtrl_ntk.experiment.checkpoints.pretrained import (
    COMMAND,
    is_pretrained,
    pretrained,
    pretrained_folder,
)
from mtrl_ntk.experiment.config import FIXED, SHARED, to_dict
from mtrl_ntk.experiment.evaluation.evaluate import evaluate_agent
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.evaluation.results import RESULT_JSON
from mtrl_ntk.experiment.training.command import load

CARD = (Path(__file__).resolve().parents[3] / "docs" / "pretrained.md").read_text()


def test_names_mean_folders_and_other_paths_themselves() -> None:
    assert [*pretrained()] == ["mt10"]
    assert pretrained_folder(Path("pretrained:mt10")) == pretrained()["mt10"]
    assert is_pretrained(pretrained()["mt10"])
    assert pretrained_folder(Path("runs/mt10")) == Path("runs/mt10")
    with pytest.raises(UserError, match=r"no pretrained policy 'mt1'; .*mt10"):
        pretrained_folder(Path("pretrained:mt1"))


@pytest.mark.parametrize("name", pretrained())
def test_it_is_small_and_holds_the_policy_alone(name: str) -> None:
    folder = pretrained()[name]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 500_000
    trained, saved = load_trained(Path(f"pretrained:{name}")), load_checkpoint(folder)
    assert saved.tensors.keys() == trained.tensors.keys()
    assert not saved.training
    assert {tensor.dtype.itemsize for tensor in saved.tensors.values()} == {4}
    assert trained.origin == f"pretrained:{name}"
    text = "".join((folder / file).read_text() for file in ("manifest.json", RESULT_JSON))
    assert re.findall(r'"[\w-]*(?:/|\\\\)[^"]*"', text) == []  # nobody's paths


@pytest.mark.parametrize("name", pretrained())
def test_its_command_makes_such_a_run(name: str) -> None:
    prog, *argv = shlex.split((pretrained()[name] / COMMAND).read_text())
    trained = load_trained(Path(f"pretrained:{name}"))
    deciding = SHARED | FIXED
    assert to_dict(load(argv, prog), deciding) == to_dict(trained.config, deciding)
    assert trained.metadata["counters"]["vector_steps"] == trained.config.loop.total_steps


@pytest.mark.parametrize("name", pretrained())
def test_its_card_says_what_was_found(name: str) -> None:
    folder = pretrained()[name]
    section = CARD.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    found = json.loads((folder / RESULT_JSON).read_text())
    assert (folder / COMMAND).read_text().strip() in section
    rows = re.findall(r"^\| `?([\w-]+)`? \| ([\d.]+) \|", section, re.MULTILINE)
    assert rows == [(task["task"], f"{task['success_rate']:.2f}") for task in found["tasks"]]
    assert f"{found['mean_success_rate']:.3f}" in section
    stated = {**found["protocol"], **load_checkpoint(folder).metadata["protocol"]}
    for key in ("environment", "horizon", "observations"):
        assert str(stated[key]) in section, key


def test_it_solves_its_tasks_and_leaves_the_numbers_where_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = EvaluationOptions(
        pretrained="mt10",
        tasks=("drawer-close-v3", "window-open-v3"),
        evaluation_episodes=3,
        workers=0,
        device="cpu",
    )
    assert evaluate_agent(asked).success_rates.tolist() == [1, 1]
    (results,) = tmp_path.glob(f"evaluations/*/{RESULT_JSON}")
    assert json.loads(results.read_text())["agent"]["checkpoint"] == "pretrained:mt10"
    assert "ntkmtl, seed " in capsys.readouterr().out
