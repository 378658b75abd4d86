"""Fields of dataclasses as options: names, documentation, bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import pytest

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.experiment.config import (
    all_options,
    defaults,
)
from mtrl_ntk.experiment.options.fields import field_docs, leaves
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.settings import Decides
from tests.experiment.examples import options_of

UNBOUNDED = {"target_entropy", "target_entropy_end"}


@pytest.mark.parametrize("method", METHODS)
def test_option_names_are_unique(method: str) -> None:
    names = [option.name for option in options_of(method)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("method", METHODS)
def test_every_option_says_what_it_decides(method: str) -> None:
    known = {"decides", "bounds", "choices", "flags", "alone", "one_value", "of_suite"}
    for name, _, facts in leaves(defaults(method)):
        assert facts["decides"] in get_args(Decides), name
        assert facts.keys() <= known, name


@pytest.mark.parametrize("method", METHODS)
def test_every_option_is_documented(method: str) -> None:
    undocumented = [option.name for option in options_of(method) if not option.doc.endswith(".")]
    assert undocumented == []


def test_every_number_has_bounds_or_is_known_to_need_none() -> None:
    numbers = {
        option.name
        for option in all_options()
        if {int, float} & {option.annotation, *get_args(option.annotation)}
    }
    bounded = {
        name for each in METHODS for name, _, facts in leaves(defaults(each)) if "bounds" in facts
    }
    assert numbers == bounded | UNBOUNDED


def test_docs_of_a_base_class_are_found() -> None:
    @dataclass(frozen=True)
    class Wider(EnvConfig):
        extra: int = 0
        """Extra."""

    docs = field_docs(Wider)
    assert docs["extra"] == "Extra."
    assert docs["horizon"] == field_docs(EnvConfig)["horizon"]
