"""SIGKILL at random moments of saving: what was acknowledged is there, and nothing wrong is."""

from __future__ import annotations

import multiprocessing
import random
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from mtrl_ntk.experiment.checkpoints.archive import checkpoints
from tests.experiment.checkpoints.test_archive import Training, loaded_step


def save_for_ever(folder: Path, first_step: int, connection: Connection) -> None:
    """Saves as fast as it can, and says so after each save."""
    run, step = Training(folder, keep=2), first_step
    while True:
        run.save(step, score=step % 7)
        connection.send_bytes(str(step).encode())
        step += 3


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Starts processes quickly: they are forked from one that has imported everything."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.experiment.checkpoints.test_archive"])
    return server


def kill_while_saving(context: ForkServerContext, folder: Path, delay: float, first: int) -> int:
    """Returns the last step whose save was acknowledged before the kill."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=save_for_ever, args=(folder, first, sender))
    process.start()
    sender.close()
    acknowledged = int(receiver.recv_bytes())
    process.join(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    try:
        while True:
            acknowledged = int(receiver.recv_bytes())
    except EOFError:
        receiver.close()
    return acknowledged


@pytest.mark.parametrize("kills", [12, pytest.param(80, marks=pytest.mark.slow)])
def test_kills_at_random_moments_lose_nothing(
    tmp_path: Path, context: ForkServerContext, kills: int
) -> None:
    folder, moments = tmp_path / "checkpoint", random.Random(kills)
    step, left_behind = 1, 0
    for _ in range(kills):
        acknowledged = kill_while_saving(context, folder, moments.uniform(0, 0.05), step)
        left_behind += any(path.name.startswith(".") for path in folder.rglob("*"))
        found = loaded_step(folder)
        assert found in (acknowledged, acknowledged + 3)
        assert len(checkpoints(folder)) <= 4
        step = found + 3
    assert left_behind > kills / 10, "the kills have hardly ever hit a save"
