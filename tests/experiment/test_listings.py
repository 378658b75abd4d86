"""What there is to choose from is all of it, and each line begins with what the option takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.cli import evaluate_mt10, report_mt10, sweep_mt10, train_mt10
from mtrl_ntk.experiment.checkpoints.pretrained import pretrained
from mtrl_ntk.experiment.listings import listing
from mtrl_ntk.experiment.options.presets import presets
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD
from mtrl_ntk.version import __version__
from tests.plugins import other_methods


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("--list-tasks", [*METAWORLD.tasks]),
        ("--list-methods", [*METHODS]),
        ("--list-presets", [*presets()]),
        ("--list-pretrained", [*pretrained()]),
    ],
)
def test_every_one_has_its_line(flag: str, names: list[str]) -> None:
    lines = listing(flag, [])
    assert [line.split()[0] for line in lines] == names
    assert all(len(line.split()) > 1 for line in lines)
    assert not any(":`" in line for line in lines), "marked up for documentation"


def test_tasks_of_a_suite_that_is_named_are_listed() -> None:
    lines = listing("--list-tasks", ["--suite", "tests.own_tasks:make_tasks"])
    assert [line.split() for line in lines] == [["left", "all"], ["right", "all"]]


def test_methods_of_a_plugin_are_among_them(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from mtrl_ntk.balancing.methods import METHODS\n"
        "from mtrl_ntk.balancing.methods.equal import Equal\n"
        "class Mine(Equal):\n    'Weighs nothing.'\n"
        "METHODS['mine'] = Mine\n"
    )
    with other_methods():
        lines = listing("--list-methods", ["--plugin", str(tmp_path / "mine.py")])
        assert lines[-1].split(maxsplit=1) == ["mine", "Weighs nothing."]


@pytest.mark.parametrize("command", [train_mt10, evaluate_mt10, sweep_mt10, report_mt10])
def test_every_command_answers(
    command: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [command.__name__, "--version"])
    command()
    assert capsys.readouterr().out == f"mtrl_ntk {__version__}\n"
    monkeypatch.setattr(sys, "argv", [command.__name__, "--seed=-1", "--list-presets"])
    command()
    assert capsys.readouterr().out.splitlines() == listing("--list-presets", [])
