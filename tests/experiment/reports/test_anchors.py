"""Published numbers: as published, with source and protocol, and matched with the right methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.reports.anchors import ALL, Anchors, are_of, find_anchors
from mtrl_ntk.experiment.reports.data import Method, read_run
from mtrl_ntk.rl.envs import task_names
from tests.experiment.run_folders import TASKS, TOTAL, make_config, write_run_folder

ANCHORS = find_anchors([ALL])
STATED = {"environment", "reward_version", "goals_per_task", "horizon", "evaluation_episodes"}


def method(folder: Path, **settings: object) -> Method:
    """A method with one run."""
    path = folder / "-".join(map(str, settings.values()))
    return Method("any", (read_run(write_run_folder(path, make_config(**settings), CURVE)),))


CURVE = {TOTAL: [0.5] * 3}


@pytest.mark.parametrize("anchors", ANCHORS, ids=lambda one: one.key)
def test_every_set_says_where_it_is_from_and_what_it_means(anchors: Anchors) -> None:
    assert "https://" in anchors.source
    assert "10 seeds" in anchors.statistic
    assert anchors.protocol.keys() >= STATED
    assert all(0 <= row.value <= 1 for row in anchors.rows)
    assert all(row.method in (None, *METHODS) for row in anchors.rows)


def test_protocols_have_the_keys_of_runs(tmp_path: Path) -> None:
    run = method(tmp_path, method="equal").runs[0]
    for anchors in ANCHORS:
        assert anchors.protocol.keys() <= run.protocol.keys()


def test_table_4_is_that_of_the_paper() -> None:
    (table,) = find_anchors(["table4"])
    found = {row.name: (row.value, row.error) for row in table.rows}
    assert len(found) == 12
    assert found["NTKMTL"] == (0.96, 0.03)
    assert found["MTL SAC"] == (0.49, 0.07)
    assert found["Aligned-MTL"] == (0.97, 0.05)
    assert table.protocol["horizon"] == 150


def test_sets_that_share_text_keep_their_own_numbers() -> None:
    first, second = find_anchors(["metaworld_plus_v1", "metaworld_plus_v2"])
    assert (first.protocol["reward_version"], second.protocol["reward_version"]) == ("v1", "v2")
    assert first.source == second.source
    assert [row.value for row in first.rows] != [row.value for row in second.rows]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"method": "equal", "network": "independent"}, "STL"),
        ({"method": "equal", "network": "shared"}, "MTL SAC"),
        ({"method": "equal", "network": "task_embedding"}, "MTL SAC + TE"),
        ({"method": "equal", "network": "multi_head"}, "MH SAC"),
        ({"method": "pcgrad", "network": "shared"}, "PCGrad"),
        ({"method": "ntkmtl", "network": "multi_head"}, "NTKMTL"),
    ],
)
def test_a_row_is_matched_with_its_method(
    tmp_path: Path, settings: dict[str, object], name: str
) -> None:
    own = method(tmp_path, **settings)
    (table,) = find_anchors(["table4"])
    row, of = table.best_of([own])
    assert (row.name, of) == (name, own)


def test_the_best_of_the_methods_stands_for_a_set(tmp_path: Path) -> None:
    (table,) = find_anchors(["table4"])
    others = [method(tmp_path, method=name) for name in ("equal", "cagrad", "pcgrad", "slaw")]
    row, of = table.best_of(others)
    assert (row.name, of) == ("CAGrad", others[1])


def test_methods_without_a_published_number_stand_beside_the_best_of_all(tmp_path: Path) -> None:
    (table,) = find_anchors(["table4"])
    row, of = table.best_of([method(tmp_path, method="slaw")])
    assert (row.name, row.value, of) == ("Aligned-MTL", 0.97, None)


def test_unknown_anchors_are_named() -> None:
    with pytest.raises(UserError, match=r"no anchors 'table5'; --anchors takes table4, .*, all"):
        find_anchors(["table4", "table5"])


def test_they_are_of_the_tasks_of_mt10() -> None:
    assert are_of(task_names("MT10")[::-1])
    assert not are_of(TASKS)
