"""Settings of supervised runs: files, selectors, and what does not fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.config import save, to_dict
from mtrl_ntk.experiment.options.presets import presets
from mtrl_ntk.supervised.config import SUPERVISED, SupervisedConfig
from mtrl_ntk.supervised.datasets.registry import DATASETS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_all_settings_come_back_from_a_file(tmp_path: Path, method: str, dataset: str) -> None:
    config = SUPERVISED.from_dict({"method": method, "dataset": dataset, "seed": 7})
    save(config, tmp_path / "config.yaml")
    assert SUPERVISED.read(tmp_path / "config.yaml") == config
    assert config.network == DATASETS[dataset].networks[0]


def test_the_presets_are_possible_with_every_method() -> None:
    found = presets(SUPERVISED.presets)
    assert found
    for method in METHODS:
        for file in found.values():
            values = {**to_dict(SUPERVISED.read(file)), "method": method}
            known = {option.name for option in SUPERVISED.known(SUPERVISED.select(values))}
            kept = {name: value for name, value in values.items() if name in known}
            assert SUPERVISED.from_dict(kept).method == method


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_is_not_given_is_as_in_the_preset_of_the_data_set(dataset: str) -> None:
    needs = {} if dataset in ("digits", "scenes") else {"data_dir": "."}
    preset = SUPERVISED.read_settings(presets(SUPERVISED.presets)[dataset])
    usual = SUPERVISED.from_dict({"dataset": dataset, **needs})
    assert usual == SUPERVISED.from_dict({**preset, **needs})
    settings = to_dict(usual)
    assert {name: type(settings[name])(value) for name, value in preset.items()} == {
        name: settings[name] for name in preset
    }
    known = SUPERVISED.known({"method": "equal", "dataset": dataset, "network": usual.network})
    assert {o.name: o.default for o in known}["epochs"] == usual.length
    assert SUPERVISED.from_dict({"dataset": dataset, **needs, "epochs": 3}).length == 3


def test_a_run_of_an_unknown_method_can_be_read() -> None:
    values = {"method": "elsewhere", "dataset": "digits", "brightness": 2.5, "epochs": 3}
    config = SUPERVISED.recorded(values, "config.yaml")
    assert (config.method, config.weighting, config.length) == ("elsewhere", {"brightness": 2.5}, 3)
    assert to_dict(config)["brightness"] == 2.5


def test_tasks_are_in_the_order_of_the_data_set() -> None:
    config = SUPERVISED.from_dict({"tasks": "sum,left"})
    assert config.task_names == ("left", "sum")
    assert SUPERVISED.from_dict({}).task_names == DATASETS["digits"].task_names
    assert SUPERVISED.from_dict({"tasks": "sum"}).is_single_task


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "digit"}, "unknown dataset 'digit'; did you mean digits"),
        ({"network": "cnn"}, "unknown network 'cnn'"),
        ({"network": "segnet"}, "network is segnet; data set digits takes small_cnn"),
        ({"method": "ntkmtls"}, "unknown method"),
        ({"tasks": "depth"}, "tasks is depth; of digits there are left"),
        ({"tasks": "sum,sum"}, "each once"),
        ({"num_minibatches": 3}, "num_minibatches is 3; it must divide batch_size, 32"),
        ({"method": "ntkmtl", "kernel": "output"}, "kernel is 'output'; it must be 'loss'"),
        (
            {"scene_seed": 3},
            "unknown key 'scene_seed'; it is an option of scenes, and the data set",
        ),
        ({"method": "equal", "exponent": 1}, "and the method is equal"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"schedule": "sine"}, "schedule"),
        ({"schedule": "plateau"}, "it needs a validation split, which digits has not"),
        ({"preset": "../x"}, "preset is '../x'"),
        ({"horizon": 5}, "unknown key 'horizon'"),
        ({"dataset": "celeba", "batch_size": 1}, "batch_size is 1; cnn9 needs 2 at least"),
    ],
)
def test_what_is_not_possible_is_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        SUPERVISED.from_dict(values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_options_of_all_methods_networks_and_data_sets_are_known_for_completion() -> None:
    names = [option.name for option in SUPERVISED.all_options()]
    assert len({*names}) == len(names)
    assert {"num_minibatches", "train_pairs", "width", "features", "epochs"} <= {*names}
    assert SupervisedConfig().group == "digits"
