"""Measures what a checkpoint of the standard protocol costs: seconds and bytes, saving and loading.

The replay is full: 100 000 transitions of each of ten tasks. Files are written below a folder on
the disk to be measured, and removed afterwards. Usage, on an idle machine:

    python -m scripts.benchmarks.checkpoints --folder runs
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch

from mtrl_ntk.experiment.agents import make_agent
from mtrl_ntk.experiment.checkpoints import segments
from mtrl_ntk.experiment.checkpoints.archive import Archive, load_newest, replay_folder, segments_of
from mtrl_ntk.experiment.config import RunConfig, defaults
from mtrl_ntk.rl.envs import ACTION_DIM, OBSERVATION_DIM
from mtrl_ntk.rl.replay import MultiTaskReplayBuffer
from mtrl_ntk.rl.sac import MultiTaskSAC

TASKS = 10
CPU = torch.device("cpu")
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--method", default="ntkmtl")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=arguments.folder) as folder:
        measure(defaults(arguments.method), Path(folder))


def measure(config: RunConfig, folder: Path) -> None:
    """Prints a line for each kind of checkpoint."""
    capacity = config.loop.replay_capacity
    agent, replay = make_agent(config, TASKS, CPU), make_replay(capacity)
    fill(replay, capacity)
    agent.update(replay.sample(config.sac.batch_size))
    archive, step = Archive(folder, keep=3), capacity
    print(f"{'saving':<44}{'seconds':>9}{'MB written':>12}{'MB in all':>11}")
    save(archive, agent, replay, step, f"first, {capacity} transitions per task")
    for count in (capacity // 5, capacity // 100, capacity // 100, capacity // 1_000):
        fill(replay, count)
        step += count
        save(archive, agent, replay, step, f"{count} transitions per task later")
    print(f"{'loading':<44}{'seconds':>9}")
    seconds, found = timed(lambda: load_newest(folder, replay=True))
    print(f"{'agent and hashes of everything':<44}{seconds:>9.2f}")
    parts, empty = segments_of(found.folder, found.checkpoint.metadata), make_replay(capacity)
    seconds, _ = timed(lambda: segments.load(replay_folder(found.folder), parts, empty))
    print(f"{'replay':<44}{seconds:>9.2f}")


def make_replay(capacity: int) -> MultiTaskReplayBuffer:
    """An empty replay of the standard protocol."""
    return MultiTaskReplayBuffer(
        TASKS, capacity, OBSERVATION_DIM, ACTION_DIM, device=CPU, generator=torch.Generator()
    )


def fill(replay: MultiTaskReplayBuffer, count: int) -> None:
    """Adds random transitions, a thousand copies at a time."""
    draws = np.random.default_rng(0)
    for begin in range(0, count, 1_000):
        shape = (TASKS, min(1_000, count - begin))
        observations = draws.random((*shape, OBSERVATION_DIM), np.float32)
        actions = draws.random((*shape, ACTION_DIM), np.float32)
        rewards = draws.random(shape, np.float32)
        replay.add(observations, actions, rewards, observations, np.zeros(shape, np.bool_))


def save(
    archive: Archive, agent: MultiTaskSAC, replay: MultiTaskReplayBuffer, step: int, label: str
) -> None:
    """Saves a checkpoint and prints what it cost."""
    before = sizes(archive.folder)
    seconds, _ = timed(
        lambda: archive.save(step, agent.state_dict(), {}, agent.optimizer_state(), replay)
    )
    after = sizes(archive.folder)
    written = sum(size for path, size in after.items() if path not in before)
    print(f"{label:<44}{seconds:>9.2f}{written / 1e6:>12.1f}{sum(after.values()) / 1e6:>11.1f}")


def sizes(folder: Path) -> dict[Path, int]:
    """Bytes of every file."""
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
