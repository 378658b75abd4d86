"""Balancing methods from elsewhere: found when the user names them, refused in one line."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mtrl_ntk.balancing.methods import METHODS
from mtrl_ntk.cli import evaluate_mt10, report_mt10, sweep_mt10, train_mt10
from mtrl_ntk.errors import ConfigError
from mtrl_ntk.experiment.agents import load_trained, make_agent
from mtrl_ntk.experiment.checkpoints.checkpoint import load_checkpoint
from mtrl_ntk.experiment.config import RUNS, RunConfig, from_dict, read, to_dict
from mtrl_ntk.experiment.plugins import all_methods, method_class
from mtrl_ntk.experiment.sweeps.options import read_sweep
from mtrl_ntk.experiment.sweeps.sweep import run_sweep
from mtrl_ntk.experiment.training.command import load
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.policy import load_policy
from tests.experiment.sweeps.conftest import fake, training_folder  # noqa: F401 - fixtures
from tests.experiment.sweeps.made_sweeps import SETTINGS, FakeTraining
from tests.plugins import REGISTERED, SOURCE, other_methods, write_package

pytestmark = pytest.mark.usefixtures("no_plots")

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("--tasks=reach-v3,push-v3", "--total-steps=8", "--warmstart-steps=4", "--horizon=4"),
    *("--evaluate-every=8", "--log-every=4", "--evaluation-episodes=1", "--batch-size=4"),
    *("--width=8", "--depth=1", "--workers=0", "--device=cpu", "--replay-capacity=100"),
)
Run = Callable[..., tuple[object, str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a plugin, which is forgotten afterwards."""
    (tmp_path / "dimmed.py").write_text(REGISTERED)
    monkeypatch.chdir(tmp_path)
    with other_methods():
        yield tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; returns its exit code and what it said."""

    def run_command(command: Callable[[], None], *argv: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", [command.__name__, *argv])
        code: object = 0
        try:
            command()
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.err if code else said.out

    return run_command


@pytest.fixture
def trained(folder: Path) -> Path:
    """The folder of a run whose method is not known any more."""
    with other_methods():
        argv = ["--plugin=dimmed.py", "--method=dimmed", "--brightness=0.25", "--run-dir=run"]
        train(load([*argv, *SMALL], "train_mt10"))
    assert "dimmed" not in METHODS
    return folder / "run"


# On the command line


def test_a_method_of_a_file_is_one_like_all(folder: Path) -> None:
    argv = ["--plugin", "dimmed.py", "--method", "dimmed", "--brightness", "0.25"]
    config = load(argv, "train_mt10")
    assert (config.method, config.weighting.brightness) == ("dimmed", 0.25)
    assert config.plugin == (Path("dimmed.py"),)
    again = ["--plugin", str(folder / "dimmed.py")]
    assert load([*argv, *again], "train_mt10").plugin == (Path("dimmed.py"), folder / "dimmed.py")
    with pytest.raises(ConfigError, match=r"brightness is -1\.0; it must be above 0"):
        load([*argv, "--brightness=-1"], "train_mt10")
    with pytest.raises(ConfigError, match="it is an option of dimmed, and the method is equal"):
        load([*argv, "--method", "equal"], "train_mt10")
    with pytest.raises(ConfigError, match="did you mean dimmed"):
        load(["--plugin", "dimmed.py", "--method", "dimed"], "train_mt10")


def test_a_module_is_named_without_its_ending(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bright.py").write_text(REGISTERED)
    monkeypatch.syspath_prepend(folder)
    for _ in range(2):
        assert load(["--plugin=bright", "--method=dimmed"], "train_mt10").method == "dimmed"


def test_several_are_a_list(folder: Path) -> None:
    (folder / "more.py").write_text(REGISTERED.replace('"dimmed"', '"darker"'))
    for argv in (["--plugin=dimmed.py", "--plugin=more.py"], ["--plugin", "dimmed.py", "more.py"]):
        config = load([*argv, "--method=darker"], "train_mt10")
        assert config.plugin == (Path("dimmed.py"), Path("more.py"))
    assert {"darker", "dimmed"} <= {*METHODS}


def test_what_was_imported_by_the_program_itself_need_not_be_imported_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bright.py").write_text(REGISTERED)
    monkeypatch.syspath_prepend(folder)
    importlib.import_module("bright")
    assert load(["--plugin=bright", "--method=dimmed"], "train_mt10").method == "dimmed"


def test_help_and_dry_run_know_its_options(run: Run) -> None:
    argv = ["--plugin=dimmed.py", "--method=dimmed"]
    code, text = run(train_mt10, *argv, "--help")
    assert code == 0
    assert "--brightness X" in text
    assert "Weight of every task. (default: 0.5)" in text
    assert re.search(r"^methods: .*, dimmed$", text, re.MULTILINE)
    code, text = run(train_mt10, *argv, *SMALL, "--dry-run")
    assert code == 0
    assert "plugin: [dimmed.py]" in text
    assert "brightness: 0.5" in text


WRONG = {
    "raises": ("\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*bad\.py, line 2\)"),
    "leaves": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "syntax": ("def", "SyntaxError: invalid syntax"),
    "import": ("import nothing_like_it", "No module named 'nothing_like_it'"),
    "nothing": ("", r"it adds no method, as METHODS\['name'\] = Class does"),
    "unused": (SOURCE, "it adds no method"),
    "taken": (
        REGISTERED.replace('"dimmed"', '"equal"'),
        "the name equal is taken, by mtrl_ntk.balancing.methods.equal",
    ),
    "no class": (f"{SOURCE}\nMETHODS['x'] = print", "must be a class that derives from Weighting"),
    "instance": (f"{SOURCE}\nMETHODS['x'] = Dimmed(2)", "must be a class that derives from Wei"),
    "another class": (f"{SOURCE}\nMETHODS['x'] = DimmedConfig", "must be a class that derives"),
    "no dataclass": (f"{REGISTERED}\nDimmed.config_class = dict", "TypeError"),
    "odd option": (REGISTERED.replace("brightness: float", "brightness: dict"), "KeyError"),
}


@pytest.mark.parametrize("command", [train_mt10, sweep_mt10])
@pytest.mark.parametrize(("source", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_plugin_that_is_none_is_refused_in_one_line(
    command: Callable[[], None], source: str, said: str, run: Run, folder: Path
) -> None:
    (folder / "bad.py").write_text(source)
    before = dict(METHODS)
    names = ["--methods=equal"] if command is sweep_mt10 else ["--method=equal"]
    for _ in range(2):
        code, text = run(command, *names, "--plugin", "bad.py", "--dry-run")
        assert (code, text.count("\n")) == (2, 1)
        assert f"plugin {folder / 'bad.py'} cannot be used: " in text
        assert re.search(said, text)
    assert before == METHODS


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.py", "there is no such file"),
        ("dimmed", "there is no module of that name; a file ends in .py, as dimmed.py"),
        ("a/b", "there is no module of that name"),
        (".", "ValueError"),
        ("json", "it adds no method"),
        ("json.nothing", "No module named 'json.nothing'"),
        ("", "--plugin is empty"),
        ("a,b.py", "there is no such file"),
    ],
)
def test_a_name_that_is_none_is_refused_in_one_line(name: str, said: str, run: Run) -> None:
    code, text = run(train_mt10, f"--plugin={name}", "--method=dimmed")
    assert (code, text.count("\n")) == (2, 1)
    assert said in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (REGISTERED.replace("brightness", "width"), "has an option width, as all runs have"),
        (REGISTERED.replace('"dimmed"', '"a/b"'), "method is 'a/b'; it must be a name of letters"),
    ],
)
def test_a_method_that_cannot_be_called_so_is_refused_when_asked_for(
    source: str, said: str, run: Run, folder: Path
) -> None:
    (folder / "odd.py").write_text(source)
    name = "a/b" if "a/b" in source else "dimmed"
    code, text = run(train_mt10, "--plugin=odd.py", f"--method={name}")
    assert (code, text.count("\n")) == (2, 1)
    assert said in text


def test_a_sweep_hands_it_on(
    folder: Path,
    fake: FakeTraining,  # noqa: F811
) -> None:
    argv = ["--methods=dimmed,equal", "--out=sweep", "--plugin", "dimmed.py", *SETTINGS]
    for _ in range(2):
        assert run_sweep(read_sweep(argv, "sweep_mt10"), "again", fake.command) == []
    began = fake.events("began")
    assert sorted(began) == ["dimmed-seed1", "equal-seed1"]
    for event in began.values():
        assert load(event["argv"], "train_mt10").plugin == (Path("dimmed.py"),)
    assert (folder / "sweep" / "dimmed-seed1" / "evaluation.csv").exists()


# Going on, and reading


def test_it_is_recorded_and_has_to_be_named_again(trained: Path, run: Run) -> None:
    checkpoint = next((trained / "checkpoint").iterdir())
    assert load_checkpoint(checkpoint).metadata["config"]["plugin"] == ["dimmed.py"]
    for argv in (["--resume", "run"], ["--resume", "--run-dir=run"], ["--config=run/config.yaml"]):
        code, text = run(train_mt10, *argv)
        assert (code, text.count("\n")) == (2, 1)
        assert text.endswith("only if the command line says so: --plugin dimmed.py\n")
    argv = ["--resume", "run", "--plugin", "dimmed.py", "--total-steps=12"]
    assert run(train_mt10, *argv)[0] == 0
    assert read(trained / "config.yaml").loop.total_steps == 12


def test_another_file_may_bring_the_method(trained: Path, folder: Path) -> None:
    (folder / "moved.py").write_text(REGISTERED)
    config = load(["--resume", str(trained), "--plugin=moved.py"], "train_mt10")
    assert (config.plugin, config.weighting.brightness) == ((Path("moved.py"),), 0.25)


@pytest.mark.usefixtures("undrawn")
def test_results_are_read_without_the_method(trained: Path, folder: Path, run: Run) -> None:
    with (folder / "dimmed.py").open("w") as file:
        file.write("raise AssertionError('imported')")
    assert run(report_mt10, "run", "--out=report")[0] == 0
    assert "dimmed" in (folder / "report" / "report.md").read_text()
    argv = ["--run=run", "--episodes=1", "--workers=0", "--out=found"]
    assert run(evaluate_mt10, *argv)[0] == 0
    found = json.loads((folder / "found" / "evaluation.json").read_text())
    assert found["agent"]["method"] == "dimmed"
    policy = load_policy(trained, task="reach-v3")
    assert policy(np.zeros(39)).shape == (4,)
    config = load_trained(trained).config
    assert config.weighting == {"brightness": 0.25}
    assert RUNS.recorded(to_dict(config), "here") == config
    assert read(trained / "config.yaml").weighting == {"brightness": "0.25"}


def test_what_is_read_without_its_method_is_the_same_policy(trained: Path, folder: Path) -> None:
    observations = np.random.default_rng(0).standard_normal((5, 39))
    without = load_policy(trained, task="push-v3")(observations)
    load(["--plugin=dimmed.py", "--method=dimmed"], "train_mt10")
    assert (folder / "dimmed.py").exists()
    np.testing.assert_array_equal(load_policy(trained, task="push-v3")(observations), without)


def test_what_is_only_read_cannot_be_trained(trained: Path) -> None:
    with pytest.raises(ConfigError, match="unknown method 'dimmed'"):
        train(load_trained(trained).config)
    with pytest.raises(ConfigError, match=r"--plugin dimmed\.py"):
        from_dict(to_dict(load_trained(trained).config))
    with pytest.raises(ConfigError, match="unknown method 'dimed'"):
        RunConfig(method="dimed")


@pytest.mark.parametrize(
    "values",
    [
        {"brightness": {"a": 1}},
        {"brightness": [[1]]},
        {"brightness": "$\\frac$"},
        {"brightness": "a\nb"},
        {"x|y": 1},
        {"method": "<b>"},
        {"method": "a/b"},
        {"width": "wide"},
    ],
)
def test_odd_settings_of_an_unknown_method_are_refused(values: dict[object, object]) -> None:
    with pytest.raises(ConfigError):
        RUNS.recorded({"method": "elsewhere", **values}, "config.yaml")


# Of installed packages


def test_a_method_of_an_installed_package_needs_no_flag(
    folder: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    write_package(folder / "site", SOURCE, "dimmed = bright:Dimmed")
    monkeypatch.syspath_prepend(folder / "site")
    assert "dimmed" in all_methods()
    assert run(train_mt10, "--help")[1].rstrip().endswith(", dimmed")
    with pytest.raises(ConfigError, match="did you mean dimmed"):
        load(["--method=dimed"], "train_mt10")
    assert "bright" not in sys.modules, "imported though nobody has asked for its method"
    assert load(["--method=dimmed", "--brightness=2"], "train_mt10").weighting.brightness == 2
    assert from_dict({"method": "dimmed"}).plugin == ()
    assert method_class("dimmed") is METHODS["dimmed"]
    plan = read_sweep(["--methods=dimmed", *SETTINGS], "sweep_mt10")
    assert plan.options.methods == ("dimmed",)


def test_its_run_goes_on_without_a_flag(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(folder / "site", SOURCE, "dimmed = bright:Dimmed")
    monkeypatch.syspath_prepend(folder / "site")
    train(load(["--method=dimmed", "--run-dir=run", *SMALL], "train_mt10"))
    assert load(["--resume", "run"], "train_mt10").method == "dimmed"


def test_a_package_takes_no_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    equal = METHODS["equal"]
    write_package(folder / "site", SOURCE, "equal = bright:Dimmed")
    monkeypatch.syspath_prepend(folder / "site")
    assert load(["--method=equal"], "train_mt10").method == "equal"
    assert METHODS["equal"] is equal


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("", "has no attribute 'Dimmed'"),
        ("Dimmed = 3", "must be a class that derives from Weighting"),
    ],
)
def test_a_broken_package_harms_only_who_asks_for_it(
    source: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    write_package(folder / "site", source, "dimmed = bright:Dimmed")
    monkeypatch.syspath_prepend(folder / "site")
    assert load(["--method=equal"], "train_mt10").method == "equal"
    code, text = run(train_mt10, "--method=dimmed")
    assert (code, text.count("\n")) == (2, 1)
    assert "method dimmed, which is bright:Dimmed of an installed package, cannot be used" in text
    assert said in text


def test_two_packages_may_not_have_one_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("bright", "dimmer"):
        write_package(folder / "site", SOURCE, f"dimmed = {package}:Dimmed", package)
    monkeypatch.syspath_prepend(folder / "site")
    with pytest.raises(ConfigError, match=r"in two installed packages, as .* and .*; remove one"):
        load(["--method=dimmed"], "train_mt10")


# Elsewhere


def test_a_method_that_was_typed_in_has_options_without_docs() -> None:
    program = f"""
{REGISTERED.replace("from __future__ import annotations", "")}
from mtrl_ntk.experiment.config import from_dict
print(from_dict({{"method": "dimmed", "brightness": 3}}).weighting.brightness)
"""
    done = subprocess.run(
        [sys.executable], input=program, capture_output=True, text=True, check=True
    )
    assert done.stdout == "3.0\n"


def test_the_example_of_the_docs_is_a_plugin(folder: Path) -> None:
    page = (ROOT / "docs" / "adding_a_method.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (example,) = [block for block in blocks if 'METHODS["agreement"]' in block]
    (folder / "agreement.py").write_text(example)
    argv = ["--plugin=agreement.py", "--method=agreement", "--strength=0.8", *SMALL]
    config = load(argv, "train_mt10")
    assert config.weighting.strength == 0.8
    assert make_agent(config, 2, torch.device("cpu")).critic_balancer.weighting.needs_rows
