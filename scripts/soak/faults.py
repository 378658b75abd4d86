"""What may happen to a run of training, and by chance at any moment does."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil

from mtrl_ntk.experiment.checkpoints.archive import checkpoints
from mtrl_ntk.experiment.files.layout import CHECKPOINT
from scripts.soak.training import Training, has_begun

Ended = frozenset[int]
"""Exit codes of the main process that a fault allows; empty where it is to go on."""

_GOES_ON: Ended = frozenset()
# Before it listens to signals, one ends it at once.
_STOPPED: Ended = frozenset({128 + signal.SIGTERM, -signal.SIGTERM})
# It goes on, but if that was just its end, which it could not save, or its beginning.
_UNSAVED: Ended = frozenset({1, 2})
_KILLED: Ended = frozenset({-signal.SIGKILL})


def kill_worker(training: Training, chance: random.Random) -> Ended | None:
    """Kills an environment worker."""
    return _signal_one(training.workers(), chance, signal.SIGKILL)


def stop_worker(training: Training, chance: random.Random) -> Ended | None:
    """Stops an environment worker for good, as if it hung."""
    # Until it has begun it would outlive a main process that is killed before it notices.
    begun = [worker for worker in training.workers() if has_begun(worker)]
    return _signal_one(begun, chance, signal.SIGSTOP)


def _signal_one(
    workers: list[psutil.Process], chance: random.Random, number: signal.Signals
) -> Ended | None:
    if not workers:
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        chance.choice(workers).send_signal(number)
    return _GOES_ON


def terminate(training: Training, _: random.Random) -> Ended:
    """Asks the run to stop."""
    training.main.send_signal(signal.SIGTERM)
    return _STOPPED


def kill(training: Training, _: random.Random) -> Ended:
    """Kills the main process, in the middle of whatever it does."""
    training.main.kill()
    return _KILLED


def damage_newest(training: Training, chance: random.Random) -> Ended | None:
    """Asks the run to stop, and spoils its newest checkpoint if there are others."""
    if len(checkpoints(training.run_dir / CHECKPOINT)) < 3:
        return None
    training.main.send_signal(signal.SIGTERM)
    if training.wait() != 0:
        newest = checkpoints(training.run_dir / CHECKPOINT)[-1]
        files = sorted(path for path in newest.rglob("*") if path.is_file())
        _damage(chance.choice(files), chance)
    return _STOPPED


def _damage(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    how = chance.choice(["flip", "cut", "remove"])
    if how == "remove" or not content:
        path.unlink()
        return
    place = chance.randrange(len(content))
    if how == "cut":
        del content[place:]
    else:
        content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def fill_disk(training: Training, chance: random.Random) -> Ended | None:
    """Lets no file grow for some seconds, as on a full disk.

    That is a limit of the process; a write beyond it fails, since Python ignores SIGXFSZ.
    """
    if not training.workers():
        return None
    try:
        _, hard = before = training.main.rlimit(psutil.RLIMIT_FSIZE)
        training.main.rlimit(psutil.RLIMIT_FSIZE, (chance.randrange(4096), hard))
        time.sleep(chance.uniform(0.5, 3))
        training.main.rlimit(psutil.RLIMIT_FSIZE, before)
    except psutil.NoSuchProcess:
        pass
    return _UNSAVED


FAULTS: dict[str, Callable[[Training, random.Random], Ended | None]] = {
    "kill-worker": kill_worker,
    "stop-worker": stop_worker,
    "terminate": terminate,
    "kill": kill,
    "damage-newest": damage_newest,
    "fill-disk": fill_disk,
}
"""Faults by name. Each returns what follows, or None if it was not possible at that time."""


class Unexpected(Exception):
    """A run has ended in a way that no fault explains."""


def train_to_the_end(
    training: Training,
    faults: Iterator[str] | None = None,
    chance: random.Random | None = None,
    mean_interval: float = 0.0,
    until: float = 0.0,
    at_least: Collection[str] = (),
) -> None:
    """Runs a training to its end, whatever happens to it on the way.

    Args:
        training: The run.
        faults: Names of what happens, in turn; None for nothing.
        chance: Draws the moments.
        mean_interval: Seconds from one fault to the next.
        until: Time after which nothing happens any more, on the monotonic clock.
        at_least: What has to have happened before, however long that takes.

    Raises:
        Unexpected: If the run ends otherwise than faults explain, or leaves processes.
    """
    chance = chance or random.Random(0)
    while True:
        training.start()
        allowed: Ended = _GOES_ON
        saved_before = _newest(training)
        due = time.monotonic() + chance.uniform(0, 2 * mean_interval)
        while (code := training.poll()) is None:
            time.sleep(0.05)
            # Each process gets somewhere, but for some: there would be no end otherwise.
            is_ripe = _newest(training) != saved_before or chance.random() < 0.001
            is_over = time.monotonic() > until and training.faults.keys() >= set(at_least)
            if faults is None or is_over or not is_ripe or time.monotonic() < due:
                continue
            name = next(faults)
            with contextlib.suppress(psutil.NoSuchProcess):
                follows = FAULTS[name](training, chance)
                if follows is not None:
                    training.faults[name] += 1
                    allowed |= follows
            due = time.monotonic() + chance.uniform(0, 2 * mean_interval)
        if left := training.left_processes():
            raise Unexpected(f"processes {left} live on after exit code {code}")
        if code == 0:
            return
        if code not in allowed:
            raise Unexpected(
                f"exit code {code} after {dict(training.faults)}: {training.last_words()}"
            )


def _newest(training: Training) -> str:
    found = checkpoints(training.run_dir / CHECKPOINT)
    return found[-1].name if found else ""


def in_turn(names: list[str], chance: random.Random) -> Iterator[str]:
    """All names again and again, each time in another order."""
    while True:
        yield from chance.sample(names, len(names))
