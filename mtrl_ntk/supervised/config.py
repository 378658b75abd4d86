"""The configuration of a supervised run: what data set, network and method own, composed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.config import NEWEST
from mtrl_ntk.experiment.families import (
    Family,
    method_of,
    options_elsewhere,
    options_of_others,
    unique,
)
from mtrl_ntk.experiment.options.fields import (
    Option,
    convert_values,
    options,
    suggestion,
    updated,
)
from mtrl_ntk.experiment.options.presets import presets
from mtrl_ntk.experiment.options.sections import Device
from mtrl_ntk.experiment.options.values import shown
from mtrl_ntk.experiment.options.yaml_files import read_values
from mtrl_ntk.experiment.plugins import method_class
from mtrl_ntk.settings import LARGEST_SEED, MOST_PROCESSES, Settings, number, setting
from mtrl_ntk.supervised.datasets.registry import DATASETS
from mtrl_ntk.supervised.networks.registry import NETWORKS


@dataclass(frozen=True)
class EpochsConfig(Settings):
    """How long is learnt, how, and what is done when."""

    epochs: int = number(20, at_least=1, limit=10**6, decides="length")
    """Times that all examples are learnt from; a last batch that is not full is left out."""
    batch_size: int = number(32, at_least=1, limit=10**6, decides="results")
    """Examples of an update."""
    learning_rate: float = number(1e-3, above=0, limit=1000, decides="results")
    """Learning rate of Adam at the beginning."""
    schedule: Literal["constant", "steps", "cosine", "plateau"] = setting(
        "constant", decides="results"
    )
    """How the learning rate changes from epoch to epoch; a cosine ends at zero with the run, and a
    plateau takes a step where the mean loss on the validation split has stopped falling."""
    step_epochs: int = number(100, at_least=1, limit=10**6, decides="results")
    """Epochs from one step of a schedule of steps to the next."""
    step_factor: float = number(0.5, above=0, at_most=1, decides="results")
    """What each step multiplies the learning rate by."""
    patience: int = number(10, at_least=0, limit=10**6, decides="results")
    """Epochs without a lower loss that a plateau may have before it takes a step."""
    log_every: int = number(50, at_least=1, decides="nothing")
    """Updates between rows of training.csv and TensorBoard scalars."""
    eigenvalues_every: int = number(0, at_least=0, decides="nothing")
    """Updates between looks at each task's kernel in the trunk, whatever the method; 0 for none."""
    evaluate_every: int = number(1, at_least=1, decides="nothing")
    """Epochs between evaluations; the last one is always evaluated."""
    checkpoint_every: int = number(0, at_least=0, decides="nothing")
    """Updates between checkpoints besides the one after each evaluation; 0 for no others."""
    keep_checkpoints: int = number(2, at_least=1, decides="nothing")
    """Newest checkpoints that are kept."""

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, from 0."""
        if self.schedule == "steps":
            return self.learning_rate * self.step_factor ** (epoch // self.step_epochs)
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.learning_rate


@dataclass(frozen=True)
class SupervisedConfig(Settings):
    """Everything that a supervised run depends on.

    Raises:
        ConfigError: A value is not possible, or two do not fit together.
    """

    method: str = setting("ntkmtl_sr", decides="results")
    """Balancing method."""
    dataset: str = setting("digits", choices=DATASETS, decides="results")
    """Data set."""
    network: str = setting("small_cnn", choices=NETWORKS, decides="results")
    """Network; by default the usual one of the data set."""
    tasks: tuple[str, ...] = setting((), decides="results")
    """Tasks of the data set, by default all; a single one gives a single-task run."""
    seed: int = number(1, at_least=0, at_most=LARGEST_SEED, decides="chance")
    """Seed of everything random."""
    device: Device = setting("auto", decides="rounding")
    """Where the network learns; auto takes CUDA when there is any."""
    threads: int = number(0, at_least=0, limit=MOST_PROCESSES, decides="rounding")
    """Threads of PyTorch on the CPU; 0 takes OMP_NUM_THREADS, or all cores."""
    run_dir: Path | None = setting(None, decides="nothing")
    """Folder of the run; by default runs/PRESET/METHOD-seedSEED-TIME, or runs/DATASET/."""
    resume: Path | None = setting(None, alone=str(NEWEST), decides="nothing")
    """Run or checkpoint to go on from; the flag alone: the newest checkpoint of run_dir, if any."""
    wandb: bool = setting(False, decides="nothing")
    """Log to Weights & Biases as well; needs `pip install wandb`, and `wandb login` once."""
    plugin: tuple[Path, ...] = setting((), decides="nothing")
    """Modules or .py files with more methods; imported only if the command line names them."""
    preset: str | None = setting(None, flags=(), decides="nothing")
    """Name of the settings that differ from the defaults: the stem of the config file."""
    epochs: EpochsConfig = field(default_factory=EpochsConfig)
    """Training"""
    data: Any = setting(None, decides="results")
    """Data set"""
    architecture: Any = setting(None, decides="results")
    """Network"""
    weighting: Any = setting(None, decides="results")
    """Balancing method"""

    def __post_init__(self) -> None:
        if not isinstance(self.weighting, Mapping):  # a run that is only read
            self._complete("weighting", method_class(self.method).config_class)
        super().__post_init__()
        self._complete("data", DATASETS[self.dataset].config_class)
        self._complete("architecture", NETWORKS[self.network].config_class)
        _check_together(self)

    def _complete(self, section: str, kind: type[Any]) -> None:
        if getattr(self, section) is None:
            object.__setattr__(self, section, kind())

    @property
    def family(self) -> Family[SupervisedConfig]:
        """Runs of ``train_supervised``."""
        return SUPERVISED

    @property
    def length(self) -> int:
        """Epochs of the whole run."""
        return self.epochs.epochs

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that are learnt, in the order of the data set."""
        known = DATASETS[self.dataset].task_names
        return tuple(name for name in known if not self.tasks or name in self.tasks)

    @property
    def is_single_task(self) -> bool:
        """Whether one task is learnt alone."""
        return len(self.task_names) == 1

    @property
    def group(self) -> str:
        """What runs like it are filed under: the preset, or the data set."""
        return self.preset or self.dataset

    at_most = ""

    @property
    def workers(self) -> int:
        """None: it has one process."""
        return 0

    def workers_on(self, cores: int) -> int:  # noqa: ARG002 - as above
        """None on any machine."""
        return 0

    def is_over(self, count: int, success: float | None) -> bool:  # noqa: ARG002 - has none
        """Whether all epochs are over."""
        return count >= self.length

    def changes_since(self, before: SupervisedConfig) -> dict[str, str]:
        """What follows from settings that differ from those before, by name and in words."""
        ends = before.length, self.length
        if self.epochs.schedule != "cosine" or ends[0] == ends[1]:
            return {}
        text = "the learning rate was to reach zero after {} epochs, does so after {}"
        return {"cosine": text.format(*ends)}


def _check_together(config: SupervisedConfig) -> None:
    """Checks what the bounds of one option cannot say."""
    dataset, batch_size = DATASETS[config.dataset], config.epochs.batch_size
    unknown = [task for task in config.tasks if task not in dataset.task_names]
    fewest = NETWORKS[config.network].fewest_rows
    minibatches = getattr(config.weighting, "num_minibatches", 1)
    rules = {
        f"{name} is {value!r}; it must be a name of letters, digits and . _ -": (
            value is None or re.fullmatch(r"\w[\w.-]*", value)
        )
        for name, value in (("method", config.method), ("preset", config.preset))
    } | {
        f"network is {config.network}; data set {config.dataset} takes "
        f"{', '.join(dataset.networks)}": config.network in dataset.networks,
        f"tasks is {','.join(config.tasks)}; of {config.dataset} there are "
        f"{', '.join(dataset.task_names)}, each once": (
            not unknown and len({*config.tasks}) == len(config.tasks)
        ),
        f"schedule is plateau; it needs a validation split, which {config.dataset} has not": (
            config.epochs.schedule != "plateau" or len(dataset.splits) > 2
        ),
        f"num_minibatches is {minibatches}; it must divide batch_size, {batch_size}": (
            batch_size % minibatches == 0
        ),
        f"batch_size is {batch_size}; {config.network} needs {fewest} at least, as it normalises "
        "over the examples of a batch": batch_size >= fewest,
        "kernel is 'output'; it must be 'loss' in supervised runs, whose networks are on no tape": (
            getattr(config.weighting, "kernel", "loss") != "output"
        ),
    }
    for message, holds in rules.items():
        if not holds:
            raise ConfigError(message)


class _Supervised(Family[SupervisedConfig]):
    """Runs of ``train_supervised``; defaults are those of the preset named for the data set."""

    command, unit, length_option = "train_supervised", "epochs", "epochs"
    selectors = ("method", "dataset", "network")
    presets = "supervised"

    def select(self, values: Mapping[Any, Any]) -> dict[str, str]:
        dataset = _named("dataset", values.get("dataset", SupervisedConfig.dataset), DATASETS)
        network = values.get("network", DATASETS[dataset].networks[0])
        return {
            "method": method_of(values, SupervisedConfig.method),
            "dataset": dataset,
            "network": _named("network", network, NETWORKS),
        }

    def known(self, selected: Mapping[str, str]) -> list[Option]:
        found = options(_plain(selected), section="Run")
        unique(found, selected["method"])
        usual = _usual(selected["dataset"], found)
        return [replace(one, default=usual.get(one.name, one.default)) for one in found]

    def elsewhere(self, selected: Mapping[str, str]) -> Mapping[str, str]:
        data = {name: options(each.config_class()) for name, each in DATASETS.items()}
        networks = {name: options(each.config_class()) for name, each in NETWORKS.items()}
        return (
            options_of_others("data set", selected["dataset"], data)
            | options_of_others("network", selected["network"], networks)
            | options_elsewhere(selected["method"])
        )

    def build(self, values: Mapping[str, object]) -> SupervisedConfig:
        selected = {name: str(values[name]) for name in self.selectors}
        plain = _plain(selected)
        values = {**_usual(selected["dataset"], options(plain)), **values}
        if (parts := getattr(plain.weighting, "num_minibatches", 0)) > 0:
            # The usual number is for batches of a usual size.
            batch_size = values.get("batch_size", plain.epochs.batch_size)
            fitting = math.gcd(parts, batch_size) if isinstance(batch_size, int) else parts
            values = {"num_minibatches": fitting, **values}
        try:
            return updated(plain, values)
        except ConfigError:
            raise
        except ValueError as error:  # from the method's own checks
            raise ConfigError(str(error)) from None

    def all_options(self) -> list[Option]:
        """The options of all methods, data sets and networks, each once."""
        tables: list[Iterable[str]] = [METHODS, DATASETS, NETWORKS]
        usual = self.select({})
        found: dict[str, Option] = {}
        for selector, table in zip(self.selectors, tables, strict=True):
            for name in table:
                chosen = {**usual, selector: name}
                if selector == "dataset":
                    chosen["network"] = DATASETS[name].networks[0]
                if selector == "network":
                    chosen["dataset"] = next(d for d in DATASETS if name in DATASETS[d].networks)
                found |= {option.name: option for option in self.known(chosen)}
        return [*found.values()]


def _plain(selected: Mapping[str, str]) -> SupervisedConfig:
    """The configuration before the data set has a say."""
    return SupervisedConfig(**dict(selected))  # type: ignore[arg-type]


def _usual(dataset: str, known: Sequence[Option]) -> dict[str, object]:
    """The settings of a data set's preset, as far as there are such options."""
    names = {option.name for option in known}
    of_preset = {name: value for name, value in _preset_of(dataset).items() if name in names}
    return convert_values(known, of_preset, dataset, {})


@cache
def _preset_of(dataset: str) -> Mapping[Any, Any]:
    return read_values(presets(_Supervised.presets)[dataset])


def _named(kind: str, name: object, table: Mapping[str, object]) -> str:
    if not isinstance(name, str) or name not in table:
        raise ConfigError(f"unknown {kind} {shown(name)}; {suggestion(str(name), table)}")
    return name


SUPERVISED = _Supervised()
"""The family of these configurations."""
