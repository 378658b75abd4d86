"""The configuration of a run: what each module owns, composed and checked."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from operator import getitem
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.families import (
    Configuration,
    Family,
    method_of,
    options_elsewhere,
    unique,
)
from mtrl_ntk.experiment.files import atomic
from mtrl_ntk.experiment.options.fields import Option, leaves, options, updated
from mtrl_ntk.experiment.options.sections import Device, EvaluationConfig, LoopConfig, VideoConfig
from mtrl_ntk.experiment.options.values import shown
from mtrl_ntk.experiment.plugins import method_class
from mtrl_ntk.rl.envs import EnvConfig, resolved_workers
from mtrl_ntk.rl.networks import NETWORK_KINDS, why_not
from mtrl_ntk.rl.sac import SacConfig
from mtrl_ntk.rl.suites.registry import SUITES, find_suite
from mtrl_ntk.rl.suites.suite import Suite
from mtrl_ntk.settings import LARGEST_SEED, MOST_PROCESSES, Decides, Settings, number, setting

NEWEST = Path("newest")
"""What stands for the newest checkpoint of the run's folder."""

SHARED: frozenset[Decides] = frozenset({"results", "length"})
"""What the settings decide that all runs of one method have in common."""
FIXED: frozenset[Decides] = frozenset({"results", "chance"})
"""What the settings decide that a resumed run may not change: what its state and numbers mean."""


@dataclass(frozen=True)
class RunConfig(Settings):
    """Everything that a run depends on.

    Raises:
        ConfigError: A value is not possible, or two do not fit together.
    """

    method: str = setting("ntkmtl", decides="results")
    """Balancing method."""
    seed: int = number(1, at_least=0, at_most=LARGEST_SEED, decides="chance")
    """Seed of everything random."""
    device: Device = setting("auto", decides="rounding")
    """Where the agent learns; auto takes CUDA when there is any."""
    threads: int = number(0, at_least=0, limit=MOST_PROCESSES, decides="rounding")
    """Threads of PyTorch on the CPU; 0 takes OMP_NUM_THREADS, or chooses by cores and workers."""
    cuda_graph: bool = setting(True, decides="rounding")
    """On CUDA, record the update once and replay it; the CPU always does, and changes no bit."""
    compile: bool = setting(False, decides="rounding")
    """Compile the update, which takes minutes at the start; gains nothing on the CPU."""
    run_dir: Path | None = setting(None, decides="nothing")
    """Folder of the run; by default runs/PRESET/METHOD-seedSEED-TIME, or runs/mtN/ for N tasks."""
    resume: Path | None = setting(None, alone=str(NEWEST), decides="nothing")
    """Run or checkpoint to go on from; the flag alone: the newest checkpoint of run_dir, if any."""
    wandb: bool = setting(False, decides="nothing")
    """Log to Weights & Biases as well; needs `pip install wandb`, and `wandb login` once."""
    plugin: tuple[Path, ...] = setting((), decides="nothing")
    """Modules or .py files with more methods; imported only if the command line names them."""
    preset: str = setting("mt10", flags=(), decides="nothing")
    """Name of the settings that differ from the defaults: the stem of the config file."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """Environments"""
    sac: SacConfig = field(default_factory=SacConfig, metadata={"decides": "results"})
    """Agent"""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Loop"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Evaluation"""
    video: VideoConfig = field(default_factory=VideoConfig)
    """Videos"""
    weighting: Any = setting(None, decides="results")
    """Balancing method"""

    @property
    def group(self) -> str:
        """What runs like it are filed under: the preset, or a name that has its number of tasks.

        Without a preset, tasks of a user's own are filed under the name of their module.
        """
        if self.preset == RunConfig.preset and ":" in self.env.suite:
            return self.env.suite.partition(":")[0].rpartition(".")[2]
        count, stated = len(self.env.task_names), re.match(r"mt(\d+)", self.preset)
        if stated is None or int(stated[1]) == count:
            return self.preset
        return f"mt{count}" if stated[0] == self.preset else f"{self.preset}-{count}tasks"

    def is_over(self, step: int, success: float | None) -> bool:
        """Whether the run has reached its end.

        Args:
            step: Vector steps so far.
            success: Mean success rate of the evaluation at that step, if there was one.
        """
        is_enough = success is not None and self.evaluation.is_enough(success)
        return step >= self.loop.total_steps or is_enough

    @property
    def family(self) -> Family[RunConfig]:
        """Runs of ``train_mt10``."""
        return RUNS

    @property
    def length(self) -> int:
        """Vector steps of the whole run."""
        return self.loop.total_steps

    @property
    def at_most(self) -> str:
        """What stands before a length that the run need not come to."""
        return self.evaluation.at_most

    @property
    def workers(self) -> int:
        """Processes that step environments; below zero where the machine is to decide."""
        return self.env.workers

    def workers_on(self, cores: int) -> int:
        """The same, on a machine with so many cores."""
        return resolved_workers(self.env, cores)

    def changes_since(self, before: RunConfig) -> dict[str, str]:
        """What follows from settings that differ from those before, by name and in words."""
        ends = before.loop.decay_end, self.loop.decay_end
        if not self.sac.decays or ends[0] == ends[1]:
            return {}
        was = f"learning rates and target entropy were to be at their ends after {ends[0]} steps"
        return {"decay_end": f"{was}, are after {ends[1]}"}

    def __post_init__(self) -> None:
        if isinstance(self.seed, np.integer):  # which YAML does not know
            object.__setattr__(self, "seed", int(self.seed))
        if not isinstance(self.weighting, Mapping):
            method = method_class(self.method)
            if self.weighting is None:
                object.__setattr__(self, "weighting", method.config_class())
        super().__post_init__()
        _check_together(self)


def _check_together(config: RunConfig) -> None:
    """Checks what the bounds of one option cannot say."""
    sac, loop = config.sac, config.loop
    minibatches = getattr(config.weighting, "num_minibatches", 1)
    method = METHODS.get(config.method)  # none if the run is only read
    mismatch = why_not(method, sac.network) if method else None
    diagnosed = loop.kernel_every > 0
    rules = {
        f"{name} is {value!r}; it must be a name of letters, digits and . _ -": (
            re.fullmatch(r"\w[\w.-]*", value)
        )
        for name, value in (("method", config.method), ("preset", config.preset))
    } | {
        f"weighting is a {type(config.weighting).__name__}, which is not the config of method "
        f"{config.method}": isinstance(config.weighting, method.config_class if method else dict),
        f"method is {config.method}; {mismatch}": mismatch is None,
        f"batch_size is {sac.batch_size}; it must be at most replay_capacity, "
        f"{loop.replay_capacity}": sac.batch_size <= loop.replay_capacity,
        f"total_steps is {loop.total_steps}; it must be at least warmstart_steps, "
        f"{loop.warmstart_steps}": loop.total_steps >= loop.warmstart_steps,
        f"warmstart_steps is {loop.warmstart_steps}; it must be at least n_steps, {sac.n_steps}": (
            loop.warmstart_steps >= sac.n_steps
        ),
        f"balance is actor; {config.method} needs positive losses, and balances critics only": (
            sac.balance != "actor" or method is None or not method.positive_losses
        ),
        f"reward_scale is {sac.reward_scale}; it must be 1 with normalize_returns, which scales "
        "the rewards": not sac.normalize_returns or sac.reward_scale == 1,
        f"log_std_min is {sac.log_std_min}; it must be below log_std_max, "
        f"{sac.log_std_max}": sac.log_std_min < sac.log_std_max,
        f"num_minibatches is {minibatches}; it must divide batch_size, {sac.batch_size}": (
            sac.batch_size % minibatches == 0
        ),
        f"kernel_minibatches is {loop.kernel_minibatches}; it must divide batch_size, "
        f"{sac.batch_size}": not diagnosed or sac.batch_size % loop.kernel_minibatches == 0,
        f"kernel_every is {loop.kernel_every}; it must be 0, since the network "
        f"{sac.network} shares nothing that a kernel could compare": (
            not diagnosed or not sac.shares.shares_nothing
        ),
    }
    for message, holds in rules.items():
        if not holds:
            raise ConfigError(message)
    try:
        names = config.env.task_names
    except ValueError as error:
        raise ConfigError(f"tasks is {','.join(config.env.tasks)}; {error}") from None
    camera = config.video.video_camera
    if camera is not None and names and config.env.suite in SUITES:
        config.env.task_suite.check_choice("video_camera", camera)


def run_folder(config: Configuration, started: datetime) -> Path:
    """Returns the folder of a run: the one asked for, or one named for group, method and seed."""
    if config.run_dir is not None:
        return config.run_dir
    name = f"{config.method}-seed{config.seed}-{started:%Y%m%d-%H%M%S}"
    return Path("runs") / config.group / name


def to_dict(config: Configuration, deciding: Container[str] = get_args(Decides)) -> dict[str, Any]:
    """Returns leaf values by name, in types that YAML and JSON know.

    Args:
        config: The configuration.
        deciding: What those that are wanted decide; by default all are.
    """
    return {
        name: _plain(value) for name, value, facts in leaves(config) if facts["decides"] in deciding
    }


def save(config: Configuration, path: Path) -> None:
    """Writes all leaf values to a YAML file, which :func:`read` reads back exactly.

    The run's folder is left out, so that the file can start another run.
    """
    values = to_dict(config) | {"run_dir": None, "resume": None}
    atomic.write(path, yaml.safe_dump(values, sort_keys=False))


def suite_of(values: Mapping[Any, Any]) -> str:
    """The suite that values by name ask for; whether it is there is not asked.

    Raises:
        ConfigError: It is no name.
    """
    suite = values.get("suite", EnvConfig.suite)
    if not isinstance(suite, str):
        raise ConfigError(f"unknown suite {shown(suite)}; it must be a name")
    return suite


def defaults(method: str, suite: str = EnvConfig.suite) -> RunConfig:
    """The defaults of a method: those of all, on a network that it can balance.

    Args:
        method: The method.
        suite: The suite whose rules are meant; those of the usual one if it is not there.
    """
    network = next(kind for kind in NETWORK_KINDS if why_not(METHODS[method], kind) is None)
    env = EnvConfig(suite=suite) if suite in SUITES else EnvConfig()
    return RunConfig(method=method, env=env, sac=SacConfig(network=network))


def with_suite(config: RunConfig, suite: Suite) -> RunConfig:
    """A configuration on the tasks of another suite, in ``SUITES``.

    What was left to the old suite is left to the new one; what was not has to be possible there.
    """
    usual, new = EnvConfig(suite=config.env.suite), EnvConfig(suite=suite.name)
    kept = {
        each.name: getattr(config.env, each.name)
        for each in fields(EnvConfig)
        if each.name != "suite" and getattr(config.env, each.name) != getattr(usual, each.name)
    }
    return replace(config, env=replace(new, **kept))


def known_options(method: str, suite: str = EnvConfig.suite) -> list[Option]:
    """The options of a run with a method on the tasks of a suite.

    Raises:
        ConfigError: If the method has one that all runs have.
    """
    found = options(defaults(method, suite), section="Run")
    if suite in SUITES:
        found = [with_choices(option, SUITES[suite]) for option in found]
    unique(found, method)
    return found


def with_choices(option: Option, suite: Suite) -> Option:
    """An option with what a suite says that it may be; without a flag if the suite has no such."""
    if not option.of_suite:
        return option
    if possible := suite.choices(option.name):
        default = option.default or suite.default(option.name)
        annotation: Any = getitem(Literal, possible)
        if option.default is None:
            annotation = annotation | None
        return replace(option, annotation=annotation, default=default)
    return replace(option, flags=())


def all_options() -> list[Option]:
    """The options of a run, those of every method included, each once."""
    found = {option.name: option for method in METHODS for option in known_options(method)}
    return [*found.values()]


def build(method: str, values: Mapping[str, object], suite: str = EnvConfig.suite) -> RunConfig:
    """Makes the configuration of a method's and a suite's defaults and converted leaf values.

    Raises:
        ConfigError: A value is out of its range, or two do not fit together.
    """
    try:
        return updated(defaults(method, suite), values)
    except ConfigError:
        raise
    except ValueError as error:  # from the method's own checks
        raise ConfigError(str(error)) from None


class _Runs(Family[RunConfig]):
    """Runs of ``train_mt10``."""

    command, unit, length_option = "train_mt10", "vector_steps", "total_steps"
    selectors = ("method", "suite")

    def select(self, values: Mapping[Any, Any]) -> dict[str, str]:
        return {"method": method_of(values, RunConfig.method), "suite": suite_of(values)}

    def found(self, selected: dict[str, str]) -> dict[str, str]:
        return {**selected, "suite": find_suite(selected["suite"]).name}

    def known(self, selected: Mapping[str, str]) -> list[Option]:
        return known_options(**selected)

    def elsewhere(self, selected: Mapping[str, str]) -> Mapping[str, str]:
        return options_elsewhere(selected["method"])

    def build(self, values: Mapping[str, object]) -> RunConfig:
        method, suite = str(values["method"]), str(values["suite"])
        return build(method, values, suite)


RUNS = _Runs()
"""The family of these configurations."""


def from_dict(values: Mapping[Any, Any], source: str = "config") -> RunConfig:
    """Makes a configuration of the defaults and leaf values by name, as :func:`to_dict` returns.

    Raises:
        ConfigError: A name is unknown, or a value is not possible.
    """
    return RUNS.from_dict(values, source)


def read(path: Path) -> RunConfig:
    """Reads a YAML file of leaf values, of methods that need not be known; others keep defaults.

    Raises:
        ConfigError: The file cannot be read, or does not hold a valid configuration.
    """
    return RUNS.read(path)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
