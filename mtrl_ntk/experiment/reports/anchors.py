"""Published success rates, each with its source and protocol, to be shown beside runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.reports.data import Method
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD

BENCHMARK = "MT10"
"""What all of them were measured on."""
ALL = "all"
_FILE = "anchors.yaml"


@dataclass(frozen=True)
class Anchor:
    """A published success rate."""

    name: str
    """The method, as its source calls it."""
    value: float
    """From 0 to 1."""
    error: float | None = None
    """Its standard error, if it is known."""
    method: str | None = None
    """The same method here; None if there is none, or any."""
    network: str | None = None
    """What its tasks share, if that tells it from others; None stands for any."""

    def is_of(self, method: Method) -> bool:
        """Whether it is about the same method."""
        config = method.runs[0].config
        if self.method is None and self.network is None:
            return False
        if self.network is None:
            return config.method == self.method and not method.is_single_task
        return config.sac.network == self.network and self.method in (None, config.method)


@dataclass(frozen=True)
class Anchors:
    """Published success rates of one source and one protocol."""

    key: str
    """What ``--anchors`` calls them."""
    title: str
    """What pictures and tables call them."""
    source: str
    """The publication."""
    statistic: str
    """What the numbers are."""
    remark: str
    """How far they and their protocol are known."""
    protocol: Mapping[str, object]
    """What they mean, with the keys of a run's protocol."""
    rows: tuple[Anchor, ...]
    """The numbers."""

    def best_of(self, methods: Sequence[Method]) -> tuple[Anchor, Method | None]:
        """The highest of the methods, with its method; the highest of all if there is no such."""
        pairs = [(row, next(filter(row.is_of, methods), None)) for row in self.rows]
        return max(pairs, key=lambda pair: (pair[1] is not None, pair[0].value))


def anchor_keys() -> tuple[str, ...]:
    """What ``--anchors`` takes."""
    return (*_read(), ALL)


def find_anchors(keys: Sequence[str]) -> list[Anchors]:
    """The sets of published numbers that ``--anchors`` names.

    Raises:
        UserError: If there is no such set.
    """
    for key in keys:
        if key not in anchor_keys():
            possible = ", ".join(anchor_keys())
            raise UserError(f"there are no anchors {key!r}; --anchors takes {possible}")
    return [anchors for key, anchors in _read().items() if {key, ALL} & set(keys)]


def are_of(tasks: Sequence[str]) -> bool:
    """Whether the published numbers were measured on these tasks."""
    return set(tasks) == set(METAWORLD.task_names(BENCHMARK))


@cache
def _read() -> dict[str, Anchors]:
    text = resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    return {key: _anchors(key, values) for key, values in yaml.safe_load(text).items()}


def _anchors(key: str, values: dict[str, Any]) -> Anchors:
    rows = tuple(Anchor(**row) for row in values["rows"])
    return Anchors(**{**values, "key": key, "rows": rows})
