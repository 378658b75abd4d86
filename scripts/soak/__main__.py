"""Trains while everything goes wrong that can, and compares with a run that nothing disturbed.

A first run is left in peace. Others of as many steps are disturbed at random moments: workers and
the main process are killed, workers hang, the run is told to stop, the disk is full for a while,
the newest checkpoint is damaged; whenever the main process has ended, the run is resumed. In the
end all of them have to be equal to the last bit, no process or file may be left behind, and memory
must not grow. The exit code is 0 only if all of that holds. Usage:

    python -m scripts.soak --minutes 60 --json soak.json
"""

from __future__ import annotations

import csv
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.files.layout import TRAINING_CSV
from mtrl_ntk.settings import Settings, number
from scripts.benchmarks.command import parse, run_command
from scripts.soak.comparison import equal_parts
from scripts.soak.faults import FAULTS, Unexpected, in_turn, train_to_the_end
from scripts.soak.training import Training, shared_memory, slope

PROG = "scripts.soak"
_FLAGS: dict[str, object] = {
    "config": "smoke",
    "workers": 2,
    "worker-timeout": 5,
    "worker-restarts": 1_000_000,  # many more than any real run should bear
    "warmstart-steps": 20,
    "log-every": 20,
    "checkpoint-every": 20,
    "evaluate-every": 100,
    "threads": 1,
    "device": "cpu",
}
_PEACEFUL_SHARE = 0.15
_FAULTS_PER_RUN = 30
_FEWEST_RUNS = 2
"""Disturbed runs even if no time is left; there are more until each fault has happened."""
_CALIBRATION_STEPS = 100
_GROWTH_ALLOWED = 50.0
"""MB per hour; the allocator's arenas are a few MB, so that only long runs can tell."""
_LONG_S = 300.0


@dataclass(frozen=True)
class Options(Settings):
    """How long it takes, and what happens."""

    minutes: float = number(60.0, above=0)
    """Time after which nothing more goes wrong; the run that is disturbed then comes to its end."""
    seed: int = 0
    """Seed of what happens when."""
    faults: tuple[str, ...] = tuple(FAULTS)
    """What happens."""
    folder: Path | None = None
    """New folder in which the runs stay; otherwise they are removed."""
    json: Path | None = None
    """File for the results."""

    def __post_init__(self) -> None:
        """Raises a ConfigError that names a bad value."""
        super().__post_init__()
        if unknown := set(self.faults) - set(FAULTS):
            raise ConfigError(f"unknown faults {sorted(unknown)}; possible: {', '.join(FAULTS)}")
        if not self.faults:
            raise ConfigError("faults is empty")
        if self.folder is not None and self.folder.exists():
            raise ConfigError(f"{self.folder} exists already; choose another folder")


@dataclass
class Results:
    """What a soak has found."""

    minutes: float = 0.0
    vector_steps: int = 0
    """Of each run."""
    runs: int = 0
    """That were disturbed."""
    faults: dict[str, int] = field(default_factory=dict)
    resumptions: int = 0
    worker_restarts: int = 0
    """Those that the runs report; what processes did that were killed may be missing."""
    differences: list[str] = field(default_factory=list)
    """Parts of disturbed runs that do not equal those of the undisturbed one."""
    left_behind: list[str] = field(default_factory=list)
    """Files and shared memory."""
    unexpected: list[str] = field(default_factory=list)
    """Ends that no fault explains."""
    undisturbed_mb_per_hour: float | None = None
    """Growth of the main process's memory; None where the run was too short to tell."""
    disturbed_mb_per_hour: float | None = None
    """The same in the longest time between two ends of a process."""
    longest_s: float = 0.0
    """Seconds over which memory was watched in one process."""

    @property
    def passed(self) -> bool:
        """Whether all held."""
        growth = self.undisturbed_mb_per_hour or 0.0
        grows = growth > _GROWTH_ALLOWED and self.longest_s > _LONG_S
        wrong = self.differences or self.left_behind or self.unexpected
        return not wrong and not grows and self.runs > 0 and bool(self.faults)


def main(argv: Sequence[str]) -> None:
    options = parse(PROG, __doc__, Options(), argv)
    # As an interrupt does: what it has started is ended.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as temporary:
        folder = options.folder or Path(temporary) / "runs"
        folder.mkdir(parents=True)
        results = soak(options, folder)
    report = json.dumps({"passed": results.passed, **asdict(results)}, indent=1)
    print(report)
    if options.json is not None:
        options.json.write_text(report + "\n", encoding="utf-8")
    if not results.passed:
        sys.exit(1)


def soak(options: Options, folder: Path) -> Results:
    """Does all of it in a folder."""
    begin, chance = time.monotonic(), random.Random(options.seed)
    until = begin + 60 * options.minutes
    temporary = folder / "temporary"
    temporary.mkdir()
    shared_before = shared_memory()
    results = Results()
    rate = _steps_per_second(folder, temporary)
    results.vector_steps = max(200, int(rate * 60 * options.minutes * _PEACEFUL_SHARE) // 20 * 20)
    say(f"{rate:.0f} vector steps per second; each run has {results.vector_steps}")
    flags = {**_FLAGS, "total-steps": results.vector_steps}
    try:
        start = time.monotonic()
        peaceful = _train(Training(folder / "undisturbed", flags, temporary))
        seconds = time.monotonic() - start
        results.undisturbed_mb_per_hour = slope(peaceful.memory[0])
        results.longest_s = seconds
        happened = Counter[str]()
        names = in_turn(list(options.faults), chance)
        missing = set(options.faults)
        while results.runs < _FEWEST_RUNS or missing or time.monotonic() + seconds < until:
            training = Training(folder / f"disturbed-{results.runs}", flags, temporary)
            interval = min(20.0, seconds / _FAULTS_PER_RUN + 1)
            try:
                train_to_the_end(training, names, chance, interval, until, missing)
            finally:
                training.end()
                happened += training.faults
                results.faults = dict(happened)
                missing -= happened.keys()
            results.runs += 1
            _examine(training, peaceful, results)
    except Unexpected as unexpected:
        results.unexpected.append(str(unexpected))
    # PyTorch keeps a cache there.
    left = {path for path in temporary.iterdir() if not path.name.startswith("torchinductor")}
    results.left_behind += sorted(map(str, left))
    results.left_behind += sorted(shared_memory() - shared_before & shared_memory())
    results.minutes = (time.monotonic() - begin) / 60
    return results


def _steps_per_second(folder: Path, temporary: Path) -> float:
    """How fast a run is here, evaluations and checkpoints included."""
    flags = {**_FLAGS, "total-steps": _CALIBRATION_STEPS}
    training = _train(Training(folder / "calibration", flags, temporary))
    table = _rows(training.run_dir / TRAINING_CSV)
    first, last = table[0], table[-1]
    steps = int(last["vector_steps"]) - int(first["vector_steps"])
    return steps / (float(last["seconds"]) - float(first["seconds"]))


def _train(training: Training) -> Training:
    try:
        train_to_the_end(training)
    finally:
        training.end()
    return training


def _examine(training: Training, peaceful: Training, results: Results) -> None:
    """Adds what a disturbed run, now complete, tells."""
    parts = equal_parts(training.run_dir, peaceful.run_dir)
    name = training.run_dir.name
    results.differences += [f"{part} of {name}" for part, equal in parts.items() if not equal]
    results.left_behind += [
        str(path)
        for path in training.run_dir.rglob(".*")
        if path.name != ".lock"  # stays, so that there is one file that all lock
    ]
    results.resumptions += len(training.memory) - 1
    restarts = _rows(training.run_dir / TRAINING_CSV)[-1]["charts/worker_restarts"]
    results.worker_restarts += int(float(restarts))
    longest = max(training.memory, key=lambda samples: samples[-1][0] - samples[0][0])
    results.disturbed_mb_per_hour = slope(longest)
    say(f"{name}: {dict(results.faults)} so far, equal: {parts}")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(PROG, main, sys.argv[1:]))
