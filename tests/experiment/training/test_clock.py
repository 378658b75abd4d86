"""The clock of a run goes on where it was."""

from __future__ import annotations

import json

from hypothesis import given, strategies as st

from mtrl_ntk.experiment.training.clock import Clock


@given(st.integers(0, 10**6), st.integers(1, 1000), st.integers(1, 100))
def test_what_is_due_is_due_at_multiples(step: int, interval: int, num_envs: int) -> None:
    clock = Clock(num_envs)
    clock.step = step
    assert clock.is_due(interval) == (step in range(interval, step + 1, interval))
    assert not clock.is_due(0)
    assert clock.counters.env_steps == step * num_envs


def test_it_goes_on_from_its_state() -> None:
    before, after = Clock(3), Clock(3)
    before.step, before.updates = 7, 5
    state = json.loads(json.dumps(before.state()))
    state["seconds"] = 1e6
    after.restore(state)
    counters = after.counters
    assert (counters.vector_steps, counters.env_steps, counters.updates) == (7, 21, 5)
    assert 1e6 <= counters.seconds <= after.counters.seconds
