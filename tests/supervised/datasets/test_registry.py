"""The data sets that there are."""

from __future__ import annotations

import pytest

from mtrl_ntk.supervised.datasets.registry import DATASETS
from mtrl_ntk.supervised.networks.registry import NETWORKS


@pytest.mark.parametrize("name", DATASETS)
def test_each_data_set_says_what_it_is(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.name == name
    assert dataset.title
    assert len(dataset.splits) >= 2
    assert len({*dataset.task_names}) == len(dataset.task_names)
    assert {*dataset.networks} <= {*NETWORKS}
    dataset.config_class()
