"""Folders of users: what is missing there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.supervised.datasets.registry import DATASETS

OF_USERS = ("nyuv2", "cityscapes", "celeba", "qm9")


@pytest.mark.parametrize("name", OF_USERS)
def test_each_says_what_it_needs_and_where_that_comes_from(name: str, tmp_path: Path) -> None:
    dataset = DATASETS[name]
    with pytest.raises(
        ConfigError, match=rf"dataset {name} needs --data-dir, .* (github|linked|d)"
    ):
        dataset(dataset.config_class())
    with pytest.raises(ConfigError, match=f"nothing is no folder; {name} needs"):
        dataset(dataset.config_class(data_dir=tmp_path / "nothing"))  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=rf"{name} needs \S") as found:
        dataset(dataset.config_class(data_dir=tmp_path))  # type: ignore[call-arg]
    assert "\n" not in str(found.value)
