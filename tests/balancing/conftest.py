"""Fixtures of the balancing tests."""

from __future__ import annotations

import pytest

from tests.balancing.problems import Problem, make_problem


@pytest.fixture
def problem() -> Problem:
    """A problem of four tasks in float64."""
    return make_problem()
