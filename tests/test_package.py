"""What is given to others: sdist and wheel, and what states the version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from mtrl_ntk import __version__
from mtrl_ntk.experiment.options.presets import presets

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools.build_meta import build_{0}; build_{0}(sys.argv[1])"


def build(kind: str, source: Path, out: Path) -> Path:
    """Builds an sdist or a wheel; returns it."""
    subprocess.run([sys.executable, "-c", BUILD.format(kind), out], cwd=source, check=True)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the sdist gives, which holds what was committed."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run(["git", "clone", "-q", ROOT, folder / "checkout"], check=True)
    with tarfile.open(build("sdist", folder / "checkout", folder)) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (source,) = (folder / "sdist").iterdir()
    return build("wheel", source, folder)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", folder, wheel], check=True)
    return folder


def run(installed: Path, folder: Path, command: str, *arguments: str) -> str:
    """Runs a command of what is installed in an empty folder; returns what it prints."""
    done = subprocess.run(
        [sys.executable, installed / "bin" / command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_changelog_and_citation_state_the_version() -> None:
    newest = re.search(r"^## \[(.*?)]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


@pytest.mark.slow
def test_the_wheel_of_the_sdist_has_all_files_of_the_package(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "mtrl_ntk"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = {path for path in listed.stdout.split() if (ROOT / path).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    metadata = {name for name in held if ".dist-info/" in name}
    configs = {Path(name).name: held.pop(name) for name in {*held} if "/configs/" in name}
    assert held.keys() - metadata == files
    known = [*presets().values(), *presets("supervised").values()]
    assert configs == {path.name: path.read_bytes() for path in known}


@pytest.mark.slow
def test_what_the_wheel_installs_runs_by_itself(installed: Path, tmp_path: Path) -> None:
    where = "import mtrl_ntk; print(mtrl_ntk.__file__)"
    (installed / "bin" / "where").write_text(where)
    assert Path(run(installed, tmp_path, "where").strip()).is_relative_to(installed)
    assert __version__ in run(installed, tmp_path, "train_mt10", "--version")
    small = ["--config", "smoke", "--tasks", "reach-v3", "--total-steps", "20", "--workers", "0"]
    run(installed, tmp_path, "train_mt10", *small, "--run-dir", "one")
    assert "reach-v3" in run(installed, tmp_path, "evaluate_mt10", "one", "--episodes", "1")
    run(installed, tmp_path, "report_mt10", "one")
    assert (tmp_path / "report" / "index.html").exists()
