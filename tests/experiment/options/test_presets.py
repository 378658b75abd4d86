"""Presets are found by name, wherever the package is, and are not confused with files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options import presets as module
from mtrl_ntk.experiment.options.presets import config_file, presets, purpose

ROOT = Path(__file__).parents[3]
FILES = {path.name: path.read_bytes() for path in (ROOT / "configs").glob("*.yaml")}


def test_each_file_of_the_folder_is_a_preset() -> None:
    assert FILES
    assert {path.name: path.read_bytes() for path in presets().values()} == FILES
    assert all(config_file(name) == path for name, path in presets().items())


def test_they_are_found_where_links_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "configs").write_text("../configs")
    monkeypatch.setattr(module, "PACKAGE_FOLDER", tmp_path / "package")
    assert presets() == {"mine": tmp_path / "configs" / "mine.yaml"}


def test_a_preset_goes_before_a_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").touch()
    (tmp_path / "other").touch()
    assert config_file("smoke") == presets()["smoke"]
    assert config_file("./smoke") == config_file(f"{tmp_path}/smoke").relative_to(tmp_path)
    assert config_file("other") == Path("other")


@given(st.text("abcdef_123", min_size=1, max_size=12).filter(lambda name: name not in presets()))
def test_a_name_that_is_none_is_refused_and_a_path_is_left_to_who_reads_it(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no preset, and no file"):
        config_file(name)
    assert config_file(f"no/{name}") == Path(f"no/{name}")
    assert config_file(f"{name}.yaml") == Path(f"{name}.yaml")


def test_a_missing_file_named_for_a_preset_says_how_to_get_it() -> None:
    with pytest.raises(ConfigError, match="--config mt10_quick is the preset"):
        config_file("nowhere/mt10_quick.yaml")


def test_every_preset_says_what_it_is_for() -> None:
    assert all(10 < len(purpose(path)) < 120 for path in presets().values())
