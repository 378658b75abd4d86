"""The look of methods: the same in every report, and never the same twice in one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment.reports import styles as report_styles
from mtrl_ntk.experiment.reports.data import Method, Run, read_run
from mtrl_ntk.experiment.reports.styles import method_styles
from tests.experiment.run_folders import TOTAL, make_config, write_run_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "run"
    return read_run(write_run_folder(path, make_config(), {TOTAL: [0.5] * 3}))


@cache
def config(name: str, network: str) -> object:
    return make_config(method=name, network=network)


def method(run: Run, name: str, title: str | None = None, network: str = "multi_head") -> Method:
    changed = replace(run, config=config(name, network))  # type: ignore[arg-type]
    return Method(title or name, (changed,))


def test_every_method_has_a_place() -> None:
    assert sorted(report_styles._PLACES) == sorted(METHODS)


def test_no_two_methods_look_the_same(run: Run) -> None:
    methods = [method(run, name) for name in METHODS]
    methods.append(method(run, "equal", "STL", "independent"))
    methods += [method(run, "ntkmtl", f"ntkmtl, width {width}") for width in range(8)]
    looks = [(style["color"], style["linestyle"]) for style in method_styles(methods).values()]
    assert len(set(looks)) == len(looks) == len(METHODS) + 9


def test_a_method_looks_the_same_whatever_stands_beside_it(run: Run) -> None:
    names = list(METHODS)
    everyone = method_styles([method(run, name) for name in names])
    for name in names:
        assert method_styles([method(run, name)])[name] == everyone[name]


def test_variants_share_a_colour(run: Run) -> None:
    styles = method_styles([method(run, "equal", title) for title in ("equal, 1", "equal, 2")])
    first, second = styles.values()
    assert first["color"] == second["color"]
    assert first["linestyle"] != second["linestyle"]
