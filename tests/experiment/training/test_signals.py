"""The first signal asks, the second does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from mtrl_ntk.experiment.training.signals import StopRequest

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    with StopRequest() as stop:
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received is number
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


def test_the_same_request_may_come_twice_at_once() -> None:
    # As from `timeout`, which signals its child and then its group, or from a scheduler.
    with StopRequest() as stop:
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received is signal.SIGTERM


def test_other_threads_hear_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def listen() -> None:
        with StopRequest() as stop:
            assert stop.received is None

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


PROGRAM = """
import time
from mtrl_ntk.experiment.training.signals import StopRequest
with StopRequest() as stop:
    print("listening", flush=True)
    while stop.received is None:
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)  # saving hangs
"""


def test_a_second_signal_ends_the_process_at_once() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "asked\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT
