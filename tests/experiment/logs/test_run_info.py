"""run.json says what a run was made with, and survives its own damage."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import mtrl_ntk
from mtrl_ntk.experiment.logs import run_info
from mtrl_ntk.experiment.logs.run_info import add_resumption, write_run_info
from tests.experiment.logs.logged import counters

PACKAGES = ("metaworld", "mujoco", "gymnasium")


def test_run_info_says_what_the_numbers_were_made_with(tmp_path: Path) -> None:
    protocol = {"benchmark": "MT10", "horizon": 500}
    write_run_info(tmp_path, protocol, PACKAGES)
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["protocol"] == protocol
    assert info["versions"]["mtrl_ntk"] == mtrl_ntk.__version__
    assert info["versions"]["numpy"] == np.__version__
    assert {"python", "torch", "metaworld", "mujoco", "gymnasium"} <= info["versions"].keys()
    assert info["platform"]
    assert info["started"].endswith("+00:00")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "repository" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git(package, "init", "--quiet", "..")
    return package


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state_follows_the_packages_files(checkout: Path) -> None:
    assert run_info._git_state(checkout) is None, "a package installed inside a foreign repository"
    git(checkout, "add", ".")
    assert run_info._git_state(checkout) == {"commit": None, "dirty": True}
    git(checkout, "commit", "--quiet", "--message", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout.parent / "output.txt").touch()
    assert run_info._git_state(checkout) == {"commit": commit, "dirty": False}
    (checkout / "__init__.py").write_text("changed = True")
    assert run_info._git_state(checkout) == {"commit": commit, "dirty": True}


def test_a_machine_without_git_is_fine(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(checkout, "add", ".")
    monkeypatch.setenv("PATH", "")
    assert run_info._git_state(checkout) is None


def test_run_info_tells_of_every_resumption(tmp_path: Path) -> None:
    write_run_info(tmp_path, {"horizon": 500}, PACKAGES)
    before = json.loads((tmp_path / "run.json").read_text())
    for steps in (100, 200):
        add_resumption(tmp_path, {"horizon": 500}, counters(steps), PACKAGES)
    info = json.loads((tmp_path / "run.json").read_text())
    assert [each["vector_steps"] for each in info.pop("resumed")] == [100, 200]
    assert info == before
    add_resumption(tmp_path, {"horizon": 9}, counters(300), PACKAGES)
    assert json.loads((tmp_path / "run.json").read_text())["protocol"] == {"horizon": 9}


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff", b'{"resumed": 3}'])
def test_a_damaged_run_info_does_not_keep_a_run_from_going_on(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    add_resumption(tmp_path, {}, counters(7), PACKAGES)
    info = json.loads((tmp_path / "run.json").read_text())
    assert [each["vector_steps"] for each in info["resumed"]] == [7]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
