"""A stand-in for ``train_mt10`` that does as it is told, and what it leaves behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from mtrl_ntk.experiment.checkpoints.checkpoint import save_checkpoint
from mtrl_ntk.experiment.sweeps.options import Sweep, SweepOptions

STEPS = 80
SETTINGS = (
    "--tasks=reach-v3,push-v3",
    f"--total-steps={STEPS}",
    "--warmstart-steps=20",
    "--device=cpu",
)

_PROGRAM = """
import json, os, shutil, signal, sys, time
here = os.path.dirname(os.path.abspath(__file__))
options = dict(argument[2:].split("=", 1) for argument in sys.argv[1:] if "=" in argument)
folder = options["run-dir"]
name = os.path.basename(folder)

def note(event, **more):
    with open(here + "/events.jsonl", "a") as file:
        file.write(json.dumps({"event": event, "name": name, "pid": os.getpid(), **more}) + chr(10))

def save(number, _):
    note("saved")
    sys.exit(128 + number)

with open(here + "/behaviour.json") as file:
    behaviour = json.load(file).get(name, "finish")
os.makedirs(folder, exist_ok=True)
if behaviour in ("wait", "deaf"):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, save if behaviour == "wait" else signal.SIG_IGN)
    shutil.copy(here + "/finished/training.csv", folder)
note("began", argv=sys.argv[1:], environment=dict(os.environ))
if behaviour in ("wait", "deaf"):
    while True:
        time.sleep(0.02)
if behaviour == "fail":
    sys.exit("out of memory")
if behaviour == "be killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour != "vanish":
    time.sleep(0.1)
    shutil.copytree(here + "/finished", folder, dirs_exist_ok=True)
note("ended")
if behaviour == "come late":
    sys.exit("error: " + folder + " already holds a run")
"""


def two_by_two(out: Path, *, dry_run: bool = False, jobs: int = 0) -> Sweep:
    """A sweep of two methods and two seeds."""
    options = SweepOptions(
        methods=("ntkmtl", "equal"), seeds=("1-2",), out=out, dry_run=dry_run, jobs=jobs
    )
    return Sweep(options, SETTINGS)


class FakeTraining:
    """A program that takes the arguments of ``train_mt10`` and writes a finished run.

    Args:
        folder: Where it lives.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "fake.py").write_text(_PROGRAM)
        write_finished_run(folder / "finished")
        self.behave()

    @property
    def command(self) -> tuple[str, ...]:
        """Program and first arguments."""
        return (sys.executable, "-S", "-E", str(self._folder / "fake.py"))

    def behave(self, **behaviour: str) -> None:
        """Sets what runs do, by the name of their folder with _ for -; others finish."""
        named = {name.replace("_", "-"): how for name, how in behaviour.items()}
        (self._folder / "behaviour.json").write_text(json.dumps(named))

    def events(self, event: str) -> dict[str, dict[str, Any]]:
        """The last event of a kind of each run, by its name."""
        path = self._folder / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return {each["name"]: each for each in found if each["event"] == event}

    def most_at_once(self) -> int:
        """How many runs went on at a time."""
        most = running = 0
        for line in (self._folder / "events.jsonl").read_text().splitlines():
            running += {"began": 1, "ended": -1, "saved": -1}[json.loads(line)["event"]]
            most = max(most, running)
        return most

    def forget(self) -> None:
        """Forgets the events so far."""
        (self._folder / "events.jsonl").unlink(missing_ok=True)


def write_finished_run(folder: Path, step: int = STEPS, *, finished: bool = True) -> None:
    """Writes what the folder of a run holds at a step."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{at},1.5\n" for at in range(20, step + 1, 20))
    (folder / "training.csv").write_text(f"vector_steps,loss\n{rows}")
    (folder / "evaluation.csv").write_text(
        "vector_steps,task,success_rate\n"
        f"{step // 2},reach-v3,0.5\n{step // 2},mean,0.25\n{step},reach-v3,1\n{step},mean,0.75\n"
    )
    metadata = {"finished": finished, "counters": {"vector_steps": step}}
    save_checkpoint(
        folder / "checkpoint" / f"step-{step:09d}", {"weight": torch.zeros(1)}, metadata
    )
