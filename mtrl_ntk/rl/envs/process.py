"""One process that steps environments: its main function, and how its parent sees it.

A command or an answer is a few bytes through a pipe, which never fills; all else is in shared
memory, but for calls, whose arguments and results are pickles. Every command is answered once, by
``DONE``; ``ALIVE`` may come before it, any number of times, and the results of a call. Commands may
be sent before the answers to earlier ones have come.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl_ntk.rl.envs.bundle import Arguments, BundleSpec, EnvBundle, SimulationError

DONE, ALIVE, FAILED, RESULTS = b"d", b"a", b"f", b"v"
"""First byte of an answer; the text of what failed follows, or the results of a call."""

STEP, _RESET, _GO_TO, _CALL, _CLOSE = b"s", b"r", b"g", b"k", b"c"
_INTERRUPTS = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)  # Windows has neither of the last two
}
"""Signals that a scheduler may send to all processes of a job; only the parent answers them."""

_CONTEXT = multiprocessing.get_context("spawn")


def step_command(skipped: Collection[int] = ()) -> bytes:
    """Steps the rows with their actions, but for some that stay as they are."""
    return STEP + _listed(skipped)


def reset_command(seed: int | None, rows: Collection[int] = ()) -> bytes:
    """Starts new episodes, in all rows if none are named."""
    return _RESET + (b"" if seed is None else str(seed).encode()) + b":" + _listed(rows)


def call_command(method: str, arguments: Mapping[int, Arguments]) -> bytes:
    """Calls a method in some rows."""
    return _CALL + pickle.dumps((method, arguments))


def starts_afresh(command: bytes) -> bool:
    """Whether it does not matter to a command where environments were before."""
    is_seeded = command.startswith(_RESET) and not command.startswith(_RESET + b":")
    return is_seeded or command.startswith(_GO_TO)


def go_to_command(seed: int, given_up: Collection[int] = ()) -> bytes:
    """Goes where the histories say; rows that are given up, to their next episode."""
    return _GO_TO + f"{seed}:".encode() + _listed(given_up)


def _listed(rows: Collection[int]) -> bytes:
    return ",".join(map(str, rows)).encode()


def _rows(text: bytes) -> tuple[int, ...]:
    return tuple(int(row) for row in text.split(b",") if row)


@dataclass(frozen=True)
class SharedArrays:
    """Memory that the processes of a pool share.

    It is backed by files that are unlinked at once: nothing stays behind, however we die.
    """

    _spec: BundleSpec
    _records: ctypes.Array[ctypes.c_byte]
    _histories: ctypes.Array[ctypes.c_byte]

    @classmethod
    def allocate(cls, spec: BundleSpec) -> SharedArrays:
        """Memory full of zeros for all environments."""
        sizes = (spec.num_envs * dtype.itemsize for dtype in (spec.record, spec.history))
        return cls(spec, *(_CONTEXT.RawArray(ctypes.c_byte, size) for size in sizes))

    @property
    def records(self) -> NDArray[Any]:
        """One ``record`` of the spec per row."""
        return np.frombuffer(memoryview(self._records), dtype=self._spec.record)

    @property
    def histories(self) -> NDArray[Any]:
        """One ``history`` of the spec per row."""
        return np.frombuffer(memoryview(self._histories), dtype=self._spec.history)


class Worker:
    """A process that steps some rows, and that can be replaced by another one.

    Args:
        name: What to call it in messages.
        arrays: The memory of all rows.
        rows: The rows that it steps.

    Attributes:
        owed: Answers that have not come yet.
        silence: Seconds for which it has owed an answer without a sign of life; kept by the caller.
        is_ready: Whether its environments are made.
        results: What the last call returned, by row, or raised.
    """

    def __init__(self, name: str, arrays: SharedArrays, rows: Sequence[int]) -> None:
        self.name, self.rows = name, rows
        self._arrays = arrays
        self.owed, self.silence, self.is_ready = 0, 0.0, False
        self.results: dict[int, Any] | Exception = {}

    def start(self, spec: BundleSpec) -> None:
        """Starts a process, which owes a first answer when its environments are made."""
        connection, child_connection = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=run_worker,
            args=(child_connection, self._arrays, spec, self.rows, _ends_with_its_threads()),
            name="environment-worker",
            daemon=True,
        )
        with _hidden_main_module(), _blocked_interrupts():
            process.start()
        # Held open here, it would hide the death of the worker.
        child_connection.close()
        self.process: SpawnProcess = process
        self.connection: Connection = connection
        self.owed, self.silence, self.is_ready = 1, 0.0, False

    def send(self, command: bytes) -> None:
        """Sends a command; to a dead process too, which is noticed when it does not answer."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(command)
        self.owed += 1
        self.silence = 0.0

    def receive(self) -> str | None:
        """Takes an answer, for which the connection must be ready.

        Returns:
            What has failed, if anything has; the process is of no use then.
        """
        try:
            message = self.connection.recv_bytes()
        except (EOFError, OSError):
            self.process.join(1.0)
            return f"died, {_cause_of_death(self.process.exitcode)}"
        if message[:1] == FAILED:
            return f"failed: {message[1:].decode()}"
        self.silence = 0.0
        if message[:1] == RESULTS:
            self.results = pickle.loads(message[1:])
        if message == DONE:
            self.owed -= 1
            self.is_ready = True
        return None

    def ask_to_end(self) -> None:
        """Tells the process to end when it comes to it."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(_CLOSE)
        self.connection.close()

    def kill(self, patience: float = 0.0) -> None:
        """Ends the process, by force after so many seconds; returns when it has ended."""
        if patience:
            self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def run_worker(
    connection: Connection,
    arrays: SharedArrays,
    spec: BundleSpec,
    rows: Sequence[int],
    dies_with_parent: bool,
) -> None:
    """Main function of a worker: makes its environments, then steps them until told to close."""
    # In this order, so that one that ignores interrupts can be trusted to end with its parent.
    if dies_with_parent:
        _die_with_parent()
    for interrupt in _INTERRUPTS:
        signal.signal(interrupt, signal.SIG_IGN)
    alive = partial(connection.send_bytes, ALIVE)
    try:
        _serve(connection, EnvBundle(spec, arrays.records, arrays.histories, rows, alive))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The parent is gone: nobody is left to tell.
        return
    except Exception as error:
        text = str(error) if isinstance(error, SimulationError) else repr(error)
        connection.send_bytes(FAILED + text.encode())


def _serve(connection: Connection, bundle: EnvBundle) -> None:
    connection.send_bytes(DONE)
    while (command := connection.recv_bytes()) != _CLOSE:
        kind, arguments = command[:1], command[1:]
        if kind == STEP:
            bundle.step_async(_rows(arguments) if arguments else ())
            bundle.step_wait()
        elif kind == _CALL:
            connection.send_bytes(RESULTS + _called(bundle, arguments))
        elif kind == _GO_TO:
            seed, _, given_up = arguments.partition(b":")
            bundle.go_to(int(seed), _rows(given_up))
        else:
            seed, _, rows = arguments.partition(b":")
            bundle.reset(int(seed) if seed else None, _rows(rows))
        connection.send_bytes(DONE)
    bundle.close()


def _called(bundle: EnvBundle, arguments: bytes) -> bytes:
    """What a call returns, or the error that it raises, which is no fault of the worker's."""
    try:
        return pickle.dumps(bundle.call(*pickle.loads(arguments)))
    except Exception as error:
        kind = AttributeError if isinstance(error, AttributeError) else RuntimeError
        return pickle.dumps(kind(f"{type(error).__name__}: {error}"))


def _ends_with_its_threads() -> bool:
    """Whether this thread lives as long as its process, so that children may end with it."""
    return sys.platform == "linux" and threading.current_thread() is threading.main_thread()


def _die_with_parent() -> None:
    """Has Linux kill this process when its parent ends, even while it hangs or is stopped.

    Otherwise it would have to come back to its connection first, to see that nobody is there.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it has ended before


@contextlib.contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Keeps a spawned process from importing the program's main module.

    It would import torch for nothing, and would run a script that has no ``__main__`` guard again.
    """
    main_module = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main_module


@contextlib.contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Starts a process with interrupts blocked, so that none can end it before it ignores them.

    For this process they only wait for the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        # Multiprocessing's own helper would be ended by a SIGUSR1. Starting it unblocks others.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
