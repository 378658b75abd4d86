"""What is summed between two rows of the training log."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl_ntk.experiment.logs import metrics as monitor
from mtrl_ntk.experiment.logs.metrics import EpisodeStatistics, MetricMeans, Rates, scalars
from mtrl_ntk.experiment.types import Counters
from tests.device import forbid_host_synchronisation


def metrics(**values: float | list[float]) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_means_are_taken_number_by_number() -> None:
    means = MetricMeans()
    means.add(metrics(loss=[1.0, 10.0], norm=3.0))
    means.add(metrics(loss=[3.0, 20.0], norm=5.0))
    fetched = means.fetch()
    assert fetched["loss"].tolist() == [2.0, 15.0]
    assert fetched["norm"].shape == ()
    assert fetched["norm"] == 4.0


def test_a_metric_counts_only_the_updates_that_had_it() -> None:
    means = MetricMeans()
    means.add(metrics(loss=1.0, cosine=-0.5))
    means.add(metrics(loss=2.0))
    means.add(metrics(loss=6.0, late=[7.0, 9.0]))
    fetched = {name: values.tolist() for name, values in means.fetch().items()}
    assert fetched == {"loss": 3.0, "cosine": -0.5, "late": [7.0, 9.0]}


def test_a_fetch_starts_anew() -> None:
    means = MetricMeans()
    assert means.empty
    means.add(metrics(loss=1.0, cosine=1.0))
    assert not means.empty
    means.fetch()
    assert means.empty
    means.add(metrics(loss=5.0))
    assert means.fetch() == {"loss": 5.0}


def test_metrics_keep_their_order() -> None:
    # It is that of the columns of training.csv, which must not depend on the hashes of names.
    names = [f"{group}/{net}" for group in ("losses", "weights", "ntk") for net in ("b", "a")]
    means = MetricMeans()
    means.add(metrics(**dict.fromkeys(names, 1.0)))
    assert list(means.fetch()) == names


def test_many_small_numbers_add_up() -> None:
    means = MetricMeans()
    for _ in range(1000):
        means.add(metrics(loss=0.1))
    assert means.fetch()["loss"] == pytest.approx(0.1, rel=1e-5)


def test_the_callers_tensors_are_left_alone_and_not_kept() -> None:
    means = MetricMeans()
    first = metrics(loss=1.0)
    means.add(first)
    means.add(metrics(loss=3.0))
    assert first["loss"] == 1.0
    first["loss"].fill_(100.0)
    assert means.fetch()["loss"] == 2.0


def test_adding_never_waits_for_the_device_and_fetching_waits_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    means = MetricMeans()
    update = metrics(loss=[1.0, 2.0], norm=1.0, entropy=[0.0, 0.0])
    with forbid_host_synchronisation():
        for _ in range(3):
            means.add(update)
    transfers: list[Tensor] = []
    to_host = Tensor.cpu

    def counted(tensor: Tensor) -> Tensor:
        transfers.append(tensor)
        return to_host(tensor)

    monkeypatch.setattr(Tensor, "cpu", counted)
    with forbid_host_synchronisation():
        means.fetch()
    assert [tensor.numel() for tensor in transfers] == [5]


def ended(num_envs: int, episodes: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """Infos of a step in which these environments' episodes ended, with success and return."""
    mask = np.isin(np.arange(num_envs), list(episodes))
    success, returns = np.zeros(num_envs, np.float32), np.zeros(num_envs)
    for env, (succeeded, total) in episodes.items():
        success[env], returns[env] = succeeded, total
    return {
        "success": np.ones(num_envs, np.float32),
        "final_info": {"success": success, "episode": {"r": returns}},
        "_final_info": mask,
    }


def numbers(values: Iterable[float]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def test_a_task_without_an_ended_episode_is_nan() -> None:
    episodes = EpisodeStatistics(3)
    assert numbers(episodes.success_rates) == [None, None, None]
    episodes.add({"success": np.ones(3, np.float32)})
    assert numbers(episodes.success_rates) == [None, None, None]
    episodes.add(ended(3, {1: (0.0, 8.0)}))
    assert numbers(episodes.success_rates) == [None, 0.0, None]
    assert numbers(episodes.mean_returns) == [None, 8.0, None]


def test_the_copies_of_a_task_count_together() -> None:
    episodes = EpisodeStatistics(2)
    episodes.add(ended(6, {0: (1.0, 10.0), 1: (0.0, 20.0), 4: (1.0, -4.0)}))
    episodes.add(ended(6, {2: (0.0, 60.0)}))
    assert numbers(episodes.success_rates) == pytest.approx([1 / 3, 1.0])
    assert numbers(episodes.mean_returns) == [30.0, -4.0]


def test_only_the_latest_episodes_of_a_task_count() -> None:
    episodes = EpisodeStatistics(2)
    episodes.add(ended(2, {1: (0.0, 5.0)}))
    for _ in range(3):
        episodes.add(ended(2, {0: (0.0, 100.0)}))
    for _ in range(monitor._RECENT_EPISODES - 1):
        episodes.add(ended(2, {0: (1.0, 0.0)}))
    share = 1 / monitor._RECENT_EPISODES
    assert numbers(episodes.success_rates) == pytest.approx([1 - share, 0.0])
    assert numbers(episodes.mean_returns) == pytest.approx([100 * share, 5.0])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that rates are taken by: ``clock.now``."""
    state = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(monitor, "time", SimpleNamespace(perf_counter=lambda: state.now))
    return state


def counters(env_steps: int, updates: int) -> Counters:
    return Counters(vector_steps=0, env_steps=env_steps, updates=updates, seconds=0.0)


def test_rates_are_those_since_the_last_lap(clock: SimpleNamespace) -> None:
    rates = Rates()
    clock.now += 2
    assert rates.lap(counters(100, 10)) == (50.0, 5.0)
    clock.now += 4
    assert rates.lap(counters(300, 10)) == (50.0, 0.0)


def test_pauses_are_left_out_of_rates(clock: SimpleNamespace) -> None:
    rates = Rates()
    clock.now += 1
    with rates.paused():
        clock.now += 60
    clock.now += 1
    with rates.paused():
        clock.now += 7
    assert rates.lap(counters(100, 20)) == (50.0, 10.0)
    clock.now += 1
    assert rates.lap(counters(130, 20)) == (30.0, 0.0)


def test_scalars_are_named_by_task_where_there_is_one_per_task() -> None:
    values = {"losses/critic": np.array([1.0, 2.0]), "gradient_norm/critic": np.array(3.0)}
    named = scalars(values, ("reach-v3", "push-v3"))
    assert named == {
        "losses/critic/reach-v3": 1.0,
        "losses/critic/push-v3": 2.0,
        "gradient_norm/critic": 3.0,
    }
    assert all(type(value) is float for value in named.values())


def test_a_metric_of_another_number_of_tasks_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        scalars({"losses/critic": np.ones(3)}, ("reach-v3", "push-v3"))


def test_means_go_on_in_another_process() -> None:
    means, other = MetricMeans(), MetricMeans()
    means.add(metrics(b=0.1, a=[1.0, 2.0]))
    other.add(metrics(old=5.0))
    state = means.state()
    # Files keep tensors in an order of their own; the columns keep that of the first update.
    other.restore({**state, "sums": dict(sorted(state["sums"].items()))})
    assert not other.empty
    for each in (means, other):
        each.add(metrics(b=0.2, a=[3.0, 5.0], late=1.0))
    fetched, expected = other.fetch(), means.fetch()
    assert list(fetched) == list(expected) == ["b", "a", "late"]
    assert all((fetched[name] == expected[name]).all() for name in expected)


def test_restored_means_leave_the_state_alone() -> None:
    sums, counts = metrics(a=1.0), {"a": 1}
    means = MetricMeans()
    means.restore({"sums": sums, "counts": counts})
    means.add(metrics(a=5.0))
    assert (sums["a"].item(), counts["a"]) == (1.0, 1)


def test_episodes_go_on_in_another_process() -> None:
    episodes, other = EpisodeStatistics(2), EpisodeStatistics(2)
    for index in range(monitor._RECENT_EPISODES + 3):
        episodes.add(ended(2, {0: (index % 2, index / 7)}))
    other.add(ended(2, {0: (1.0, 5.0), 1: (1.0, 9.0)}))
    other.restore(json.loads(json.dumps(episodes.state())))
    for each in (episodes, other):
        each.add(ended(2, {0: (1.0, 1e9)}))
    assert numbers(other.success_rates) == numbers(episodes.success_rates)
    assert numbers(other.mean_returns) == numbers(episodes.mean_returns)


def test_rates_go_on_without_the_time_between(clock: SimpleNamespace) -> None:
    rates = Rates()
    clock.now += 1
    rates.lap(counters(1000, 10))
    clock.now += 2
    state = json.loads(json.dumps(rates.state()))
    clock.now += 5000
    other = Rates()
    other.restore(state)
    clock.now += 3
    assert other.lap(counters(1500, 60)) == (100.0, 10.0)


def test_a_pause_that_fails_is_a_pause(clock: SimpleNamespace) -> None:
    def fail() -> None:
        with rates.paused():
            clock.now += 60
            raise KeyboardInterrupt

    rates = Rates()
    clock.now += 1
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert rates.lap(counters(100, 4)) == (100.0, 4.0)
