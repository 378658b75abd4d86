"""The configuration of a run: what each module owns, composed, checked, and read from the user."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.checkpoints.resume import NEWEST, settings_of
from mtrl_ntk.experiment.evaluation.episodes import EvaluationConfig
from mtrl_ntk.experiment.options.fields import (
    Device,
    Option,
    convert_values,
    leaves,
    options,
    suggestion,
    updated,
)
from mtrl_ntk.experiment.options.parser import Parser
from mtrl_ntk.experiment.options.ranges import check_ranges
from mtrl_ntk.experiment.options.values import convert, shown
from mtrl_ntk.experiment.options.yaml_files import read_values
from mtrl_ntk.experiment.training.loop import LoopConfig
from mtrl_ntk.experiment.videos.opengl import VideoConfig
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.envs.task_env import task_names
from mtrl_ntk.rl.networks import why_not
from mtrl_ntk.rl.sac import SacConfig


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on.

    Raises:
        ConfigError: A value is out of its range, or two do not fit together.
    """

    method: str = "ntkmtl"
    """Balancing method."""
    seed: int = 1
    """Seed of everything random."""
    device: Device = "auto"
    """Where the agent learns; auto takes CUDA when there is any."""
    threads: int = 0
    """Threads of PyTorch on the CPU; 0 chooses by cores and workers."""
    cuda_graph: bool = True
    """On CUDA, record the update once and replay it; elsewhere without effect."""
    compile: bool = False
    """Compile the update, which takes minutes at the start; gains nothing on the CPU."""
    run_dir: Path | None = None
    """Folder of the run; by default runs/PRESET/METHOD-seedSEED-TIME."""
    resume: Path | None = field(default=None, metadata={"alone": str(NEWEST)})
    """Run or checkpoint to go on from; the flag alone: the newest checkpoint of run_dir, if any."""
    wandb: bool = False
    """Log to Weights & Biases as well; needs `pip install wandb`, and `wandb login` once."""
    preset: str = field(default="mt10", metadata={"flags": ()})
    """Name of the settings that differ from the defaults: the stem of the config file."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """Environments"""
    sac: SacConfig = field(default_factory=SacConfig)
    """Agent"""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Loop"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Evaluation"""
    video: VideoConfig = field(default_factory=VideoConfig)
    """Videos"""
    weighting: Any = None
    """Balancing method"""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            hint = suggestion(self.method, METHODS)
            raise ConfigError(f"unknown method {self.method!r}; {hint}")
        if self.weighting is None:
            object.__setattr__(self, "weighting", METHODS[self.method].config_class())
        check_ranges(self)
        _check_together(self)


def _check_together(config: RunConfig) -> None:
    """Checks what a range of one option cannot say."""
    sac, loop = config.sac, config.loop
    minibatches = getattr(config.weighting, "num_minibatches", 1)
    mismatch = why_not(METHODS[config.method], sac.network)
    diagnosed = loop.kernel_every > 0
    rules = {
        f"preset is {config.preset!r}; it must be a name of letters, digits and . _ -": (
            re.fullmatch(r"\w[\w.-]*", config.preset)
        ),
        f"weighting is a {type(config.weighting).__name__}, which is not the config of method "
        f"{config.method}": isinstance(config.weighting, METHODS[config.method].config_class),
        f"method is {config.method}; {mismatch}": mismatch is None,
        f"batch_size is {sac.batch_size}; it must be at most replay_capacity, "
        f"{loop.replay_capacity}": sac.batch_size <= loop.replay_capacity,
        f"total_steps is {loop.total_steps}; it must be at least warmstart_steps, "
        f"{loop.warmstart_steps}": loop.total_steps >= loop.warmstart_steps,
        f"log_std_min is {sac.log_std_min}; it must be below log_std_max, "
        f"{sac.log_std_max}": sac.log_std_min < sac.log_std_max,
        f"num_minibatches is {minibatches}; it must divide batch_size, {sac.batch_size}": (
            minibatches >= 1 and sac.batch_size % minibatches == 0
        ),
        f"kernel_minibatches is {loop.kernel_minibatches}; it must divide batch_size, "
        f"{sac.batch_size}": not diagnosed or sac.batch_size % loop.kernel_minibatches == 0,
        f"kernel_every is {loop.kernel_every}; it must be 0, since the network "
        "independent shares nothing that a kernel could compare": (
            not diagnosed or sac.network != "independent"
        ),
    }
    for message, holds in rules.items():
        if not holds:
            raise ConfigError(message)
    if config.env.tasks:
        try:
            task_names(config.env.benchmark, config.env.tasks)
        except ValueError as error:
            raise ConfigError(f"tasks is {','.join(config.env.tasks)}; {error}") from None


def run_folder(config: RunConfig, started: datetime) -> Path:
    """Returns the folder of a run: the one asked for, or one named for preset, method and seed."""
    if config.run_dir is not None:
        return config.run_dir
    name = f"{config.method}-seed{config.seed}-{started:%Y%m%d-%H%M%S}"
    return Path("runs") / config.preset / name


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Returns all leaf values by name, in types that YAML and JSON know."""
    return {name: _plain(value) for name, value in leaves(config).items()}


def from_dict(values: Mapping[Any, Any], source: str = "config") -> RunConfig:
    """Makes a configuration of the defaults and the leaf values given.

    Args:
        values: Values by leaf name, as :func:`to_dict` returns them or a config file holds them.
        source: Where they come from, for errors.

    Raises:
        ConfigError: A name is unknown, or a value is not possible.
    """
    method = _method(values)
    return _build(method, convert_values(_known(method), values, source, _elsewhere(method)))


def save(config: RunConfig, path: Path) -> None:
    """Writes all leaf values to a YAML file, which :func:`read` reads back exactly.

    The run's folder is left out, so that the file can start another run.
    """
    values = to_dict(replace(config, run_dir=None, resume=None))
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    os.replace(unfinished, path)


def read(path: Path) -> RunConfig:
    """Reads a YAML file of leaf values; those it does not name keep their defaults.

    Raises:
        ConfigError: The file cannot be read, or does not hold a valid configuration.
    """
    return from_dict(read_values(path), str(path))


def load(argv: Sequence[str], prog: str) -> RunConfig:
    """Makes the configuration of a command: defaults, then ``--config``, then the command line.

    A run that is resumed has its own settings for defaults.

    Args:
        argv: Arguments without the program's name.
        prog: Name of the program, for its help.

    Raises:
        ConfigError: The command line or the config file is not possible.
        SystemExit: Help was asked for, and printed.
    """
    first = Parser(prog, add_help=False)
    first.add_argument("--config")
    first.add_argument("--method")
    first.add_argument("--run-dir")
    first.add_argument("--resume", nargs="?", const=str(NEWEST))
    given = vars(first.parse_known_args(argv)[0])
    file = convert(Path | None, given.pop("config", None), "--config")
    assert file is None or isinstance(file, Path)
    values = (read_values(file) | given) if file else given
    resumed_from, resumed = _resumed_settings(values)
    method, source = _method({**resumed, **values}), str(file or "command line")
    known = _known(method)
    names = {option.name for option in known}
    kept = {name: value for name, value in resumed.items() if name in names}
    chosen = convert_values(known, kept, resumed_from, {})
    chosen |= convert_values(known, values, source, _elsewhere(method))
    if file:
        chosen.setdefault("preset", file.stem)
    parser = _parser(prog, [_with_default(option, chosen) for option in _known(method)])
    return _build(method, chosen | parser.parse(argv, _elsewhere(method)))


def _resumed_settings(values: Mapping[Any, Any]) -> tuple[str, Mapping[str, object]]:
    """The settings of the run that is to be resumed, and where they stand; none for a new run."""
    resume, run_dir = (
        convert(Path | None, values.get(name), name) for name in ("resume", "run_dir")
    )
    if not isinstance(resume, Path):
        return "", {}
    return settings_of(resume, run_dir if isinstance(run_dir, Path) else None)


DRY_RUN = "--dry-run"
"""A flag that is no setting: it asks what a run would be."""

_DESCRIPTION = """\
Trains one multi-task SAC agent on Meta-World tasks, balanced by a method.

Settings are taken from the defaults, then from the config file, then from the command line; of a
flag given twice the last counts. The defaults are the Meta-World+ protocol. A vector step steps
every environment once. Switches that are on are turned off by --no-NAME."""

_EPILOG = """\
examples:
  {prog} --config configs/mt10_quick.yaml --seed 3
  {prog} --method equal --tasks reach-v3,push-v3 --total-steps 50000
  {prog} --config my.yaml --dry-run  # what would be trained, and the time and memory it takes
  {prog} --method ntkmtl --help     # shows the options of that method

methods: {methods}"""


def _parser(prog: str, known: Sequence[Option]) -> Parser:
    epilog = _EPILOG.format(prog=prog, methods=", ".join(METHODS))
    parser = Parser(
        prog, usage="%(prog)s [--config FILE] [options]", description=_DESCRIPTION, epilog=epilog
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings, by option name")
    parser.add_argument(
        DRY_RUN,
        action="store_true",
        help="show all settings, where the run would write and what it would take: time, memory, "
        "disk; write nothing",
    )
    parser.add_options(known)
    return parser


def _with_default(option: Option, chosen: Mapping[str, object]) -> Option:
    return replace(option, default=chosen.get(option.name, option.default))


def _method(values: Mapping[Any, Any]) -> str:
    method = values.get("method", RunConfig.method)
    if not isinstance(method, str) or method not in METHODS:
        raise ConfigError(f"unknown method {shown(method)}; {suggestion(str(method), METHODS)}")
    return method


def defaults(method: str) -> RunConfig:
    """The defaults of a method: those of all, on a network that it can balance."""
    needs_heads = METHODS[method].needs_representation
    return RunConfig(
        method=method, sac=SacConfig(network="multi_head" if needs_heads else "shared")
    )


def _known(method: str) -> list[Option]:
    return options(defaults(method), section="Run")


def all_options() -> list[Option]:
    """The options of a run, those of every method included, each once."""
    found = {option.name: option for method in METHODS for option in _known(method)}
    return [*found.values()]


def _elsewhere(method: str) -> dict[str, str]:
    """Options of the other methods, with what to say about them."""
    owners: dict[str, list[str]] = defaultdict(list)
    for other, weighting in METHODS.items():
        for option in options(weighting.config_class()):
            owners[option.name].append(other)
    return {
        name: f"it is an option of {' and '.join(others)}, and the method is {method}"
        for name, others in owners.items()
    }


def _build(method: str, values: Mapping[str, object]) -> RunConfig:
    try:
        return updated(defaults(method), values)
    except ConfigError:
        raise
    except ValueError as error:  # from the method's own checks
        raise ConfigError(str(error)) from None


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
