"""Options of ``sweep_mt10``; imports nothing heavy, so that help and errors need not wait."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.options.fields import Option, convert_values, options, updated
from mtrl_ntk.experiment.options.parser import LISTS, SUPERVISED_LISTS, Parser
from mtrl_ntk.experiment.options.yaml_files import read_values
from mtrl_ntk.settings import MOST_PROCESSES, Settings, number


@dataclass(frozen=True)
class SweepOptions(Settings):
    """What to train, and how many runs at once."""

    methods: tuple[str, ...] = ()
    """Balancing methods, such as ntkmtl,equal,pcgrad."""
    seeds: tuple[str, ...] = ("1",)
    """Seeds: numbers and ranges, such as 1-10 or 1,2,5-8."""
    vary: tuple[str, ...] = ()
    """Other settings with several values: width=128,256 gamma=0.98,0.99 trains all four pairs."""
    change: tuple[str, ...] = ()
    """Settings to change one at a time: n_steps=1 ez_greedy=0,0.1 trains without any change, then
    with each of the three."""
    out: Path | None = None
    """Folder of the sweep, with a folder for each run; by default sweeps/PRESET."""
    jobs: int = number(0, at_least=0, limit=MOST_PROCESSES)
    """Runs at once; 0 for as many as there is room for: cores, GPUs, or the whole cluster."""
    dry_run: bool = False
    """Show the runs, their settings and how they would share the machine, and train nothing."""
    sweep: Path | None = None
    """YAML file of a sweep: these options, and those of its runs, by name."""
    backend: Literal["local", "ray", "slurm"] = "local"
    """Where the runs are trained: on this machine, on a Ray cluster, or as Slurm jobs."""
    cpus: int = number(0, at_least=0, limit=MOST_PROCESSES)
    """Cores of each run on a cluster; 0 for what its threads and workers come to, at least 1."""
    gpus: int = number(0, at_least=0, limit=MOST_PROCESSES)
    """GPUs of each run on a cluster."""
    mem: float = number(0.0, at_least=0, limit=100_000)
    """Memory of each run on a cluster in GB; 0 leaves it to the cluster."""
    time: str = "24:00:00"
    """Slurm's limit for each run, in minutes or H:MM:SS; a longer run is queued again."""
    partition: str | None = None
    """Slurm's partition; by default the cluster's own choice."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.seeds:
            raise ConfigError("seeds is empty; give at least one, such as 1 or 1-10")
        self._refuse_what_another_backend_knows()
        minutes(self.time)

    def _refuse_what_another_backend_knows(self) -> None:
        known = {"local": (), "ray": _OF_RAY, "slurm": (*_OF_RAY, *_OF_SLURM)}[self.backend]
        for name in (*_OF_RAY, *_OF_SLURM):
            if name not in known and getattr(self, name) != getattr(SweepOptions, name):
                backend = "ray or slurm" if name in _OF_RAY else "slurm"
                raise ConfigError(f"{name} is an option of --backend {backend}")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds, each once.

        Raises:
            ConfigError: If one is neither a number nor a range.
        """
        numbers = [number for part in self.seeds for number in _numbers(part)]
        return tuple(dict.fromkeys(numbers))

    @property
    def variants(self) -> list[dict[str, str]]:
        """Every combination of the varied settings, without and with each change.

        Raises:
            ConfigError: If a value belongs to no setting.
        """
        values, changes = _values(self.vary, "--vary"), _values(self.change, "--change")
        combined = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
        single = [{name: value} for name, of in changes.items() for value in of]
        return [{**one, **changed} for one in combined for changed in ({}, *single)]

    @property
    def varied(self) -> frozenset[str]:
        """Names of the settings in which runs of a method differ."""
        return frozenset(name for variant in self.variants for name in variant)


def _values(parts: Sequence[str], flag: str) -> dict[str, list[str]]:
    """The values of each setting, from such as width=128,256."""
    values: dict[str, list[str]] = {}
    for part in ",".join(parts).split(",") if parts else ():
        name, equals, value = part.rpartition("=")
        if not name.strip(" -") and (equals or not values):
            raise ConfigError(f"{flag} is {part!r}; it must be such as width=128,256")
        name = name.strip().removeprefix("--").replace("-", "_") if equals else [*values][-1]
        values.setdefault(name, []).append(value.strip())
    return values


_OF_RAY = ("cpus", "gpus", "mem")
_OF_SLURM = ("time", "partition")


class Resources(NamedTuple):
    """What each run gets on a cluster."""

    cpus: int
    """Cores."""
    gpus: int
    """GPUs."""
    mem: float
    """Memory in GB; 0 leaves it to the cluster."""
    minutes: int
    """Time after which it is interrupted, and queued again."""
    partition: str | None
    """Slurm's partition."""


def minutes(time: str) -> int:
    """Minutes of a time such as 90 or 1:30:00, which are the same, rounded up.

    Raises:
        ConfigError: If it is neither, or nothing.
    """
    match = re.fullmatch(r"(\d{1,6})(?::(\d\d):(\d\d))?", time)
    first, *rest = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    found = first * 60 + rest[0] + (rest[1] > 0) if match and match[2] else first
    if not found:
        raise ConfigError(f"time is {time!r}; it must be minutes, such as 90, or such as 1:30:00")
    return found


class Sweep(NamedTuple):
    """What a command line asks for."""

    options: SweepOptions
    settings: tuple[str, ...]
    """Arguments of the command that trains that all runs have in common."""


def read_sweep(argv: Sequence[str], prog: str) -> Sweep:
    """Reads a command line: the sweep's own options, and those that are handed on to its runs.

    Options of the command line go before those of the file given by ``--sweep``.

    Raises:
        ConfigError: If an option, or the file, is not possible.
        SystemExit: If help was asked for, and printed.
    """
    train, example = prog.replace("sweep", "train"), _EXAMPLES.get(prog, _EXAMPLES["sweep_mt10"])
    parser = Parser(
        prog,
        lists=LISTS if train == "train_mt10" else SUPERVISED_LISTS,
        usage=f"%(prog)s --methods A,B [--seeds 1-10] [--config NAME] [options of {train}]",
        description=_DESCRIPTION.format(train=train),
        epilog=_EPILOG.format(prog=prog, **example),
    )
    known = options(SweepOptions(), section="Sweep")
    parser.add_options(known)
    given, settings = parser.parse_known(argv)
    file = given.get("sweep")
    values, common = _read_file(file, known) if isinstance(file, Path) else ({}, [])
    chosen = updated(SweepOptions(), {**values, **given})
    if not chosen.methods:
        raise ConfigError("no methods; --methods ntkmtl,equal trains these two")
    varied = [as_flag(name, value) for one in chosen.variants for name, value in one.items()]
    _refuse_what_differs([*common, *settings, *varied])
    for name in ("plugin", "suite"):
        if any(argument.split("=")[0] == f"--{name}" for argument in [*common, *varied]):
            raise ConfigError(
                f"{name} is the same for all runs, and imported only if the command line itself "
                f"says so: --{name} ..."
            )
    return Sweep(chosen, (*common, *settings))


def as_flag(name: str, value: object) -> str:
    """A setting, as YAML or ``--vary`` gives it, as an argument of its runs."""
    flag = name.replace("_", "-")
    if value is True or value == "true":
        return f"--{flag}"
    if value is False or value == "false":
        return f"--no-{flag}"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"--{flag}={'none' if value is None else text}"


_DESCRIPTION = """\
Trains every method with every seed, several runs at a time, each as {train} does.

The runs fill the cores, or the GPUs, without competing for them. A run that fails does not stop the
others. The same command again skips the runs that are finished and goes on with those that were
interrupted, so that a sweep can be stopped at any time with Ctrl-C. All options of {train} that
are the same for all runs can be added; {train} --help shows them."""

_EXAMPLES = {
    "sweep_mt10": {
        "config": "mt3_quick",
        "change": "--config mt10_quick --change n_steps=1 ez_greedy=0",
        "length": "total-steps 50000",
        "in_file": "total_steps: 20_000",
    },
    "sweep_supervised": {
        "config": "digits",
        "change": "--config digits --change batch_size=16 learning_rate=0.01",
        "length": "epochs 5",
        "in_file": "epochs: 5",
    },
}
"""What the help of each command shows."""

_EPILOG = """\
examples:
  {prog} --methods ntkmtl,equal,pcgrad --seeds 1-10 --config {config}
  {prog} --methods ntkmtl --seeds 1-3 --vary width=128,256 --out sweeps/width
  {prog} --methods ntkmtl --seeds 1-3 {change}
  {prog} --methods equal,ntkmtl --seeds 1-3 --{length} --dry-run
  {prog} --sweep my_sweep.yaml --jobs 4
  {prog} --methods equal,ntkmtl --backend ray --cpus 4 --gpus 1
  {prog} --methods equal,ntkmtl --backend slurm --partition gpu --cpus 8 --gpus 1 --time 12:00:00

a file for --sweep:
  methods: ntkmtl,equal
  seeds: 1-10
  out: sweeps/small
  vary: {{width: [128, 256]}}
  config: {config}
  {in_file}

A sweep writes to OUT: a folder for each run, and the runs' outputs in logs/. It ends with exit code
1 if runs have failed. With --backend ray or slurm the command stays, shows the table and takes
Ctrl-C as ever; OUT has to be a folder that all nodes share. They need `pip install ray` or
`pip install submitit`. RAY_ADDRESS names the Ray cluster; without it there is one on this machine.
Before the --time of a Slurm job is over, or when it is preempted, its run saves its state and is
queued again."""

NOT_SHARED = {
    "method": "--methods lists the methods of a sweep",
    "seed": "--seeds lists the seeds of a sweep",
    "run_dir": "--out is the folder of a sweep, and each run has its own in it",
    "resume": "a sweep goes on by itself with runs that were interrupted",
}
"""Options of runs that are not the same for all runs, and what to use instead."""


def _refuse_what_differs(arguments: Sequence[str]) -> None:
    for argument in arguments:
        flag = argument.split("=")[0]
        hint = NOT_SHARED.get(flag.removeprefix("--").replace("-", "_"))
        if hint and flag.startswith("--"):
            raise ConfigError(f"{flag} is no option of a sweep; {hint}")


def _numbers(part: str) -> range:
    match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if last < first:
        raise ConfigError(f"seeds is {part!r}; it must be numbers and ranges, such as 1,2,5-8")
    if last - first >= _MOST_SEEDS:
        raise ConfigError(f"seeds is {part!r}; it must be at most {_MOST_SEEDS} at a time")
    return range(first, last + 1)


_MOST_SEEDS = 1000


def _read_file(path: Path, known: Sequence[Option]) -> tuple[dict[str, object], list[str]]:
    """The sweep's own options in a file, and those of its runs as arguments."""
    values = read_values(path)
    names = {option.name for option in known} - {"sweep"}
    own = {
        name: _as_text(value) if name in _LISTS and value is not None else value
        for name, value in values.items()
        if name in names
    }
    others = {str(name): value for name, value in values.items() if name not in names}
    return convert_values(known, own, str(path), {}), [as_flag(*item) for item in others.items()]


_LISTS = ("methods", "seeds", "vary", "change")


def _as_text(value: Any) -> str:  # noqa: ANN401 - as YAML gives it
    """Lists as the command line writes them; seeds may be numbers, varied settings a mapping."""
    if isinstance(value, dict):
        return ",".join(f"{name}={_as_text(values)}" for name, values in value.items())
    if isinstance(value, list):
        return ",".join(map(_as_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
