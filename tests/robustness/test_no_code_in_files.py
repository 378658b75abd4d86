"""Nothing that the package reads can run code: no pickle, evaluation, unsafe YAML or plugin."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mtrl_ntk
from mtrl_ntk.cli import evaluate_mt10, report_mt10, sweep_mt10, train_mt10
from mtrl_ntk.experiment.config import from_dict, save, to_dict
from mtrl_ntk.experiment.plugins import load_plugin
from tests.experiment.run_folders import make_config, write_run_folder
from tests.plugins import OPENED, REGISTERED, other_methods
from tests.saved import CONFIG, save_run

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "torch.load",
    "torch.save",
    "torch.jit.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "pandas.read_pickle",
}

ROOT = Path(mtrl_ntk.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MOLECULES = ROOT / "supervised" / "datasets" / "molecules.py"
KNOWN = {ROOT / "rl" / "envs" / "process.py": ["pickle"], MOLECULES: ["torch.load"]}
"""What speaks to worker processes of its own, as multiprocessing does, and reads no file; and what
reads a published file of tensors, and nothing else of it."""


def unsafe(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield module
            case ast.Call(func=function, keywords=keywords):
                if ast.unparse(function) in CALLS:
                    yield ast.unparse(function)
                for keyword in keywords:
                    if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                        yield ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_of_the_package_can_run_what_it_reads(path: Path) -> None:
    assert list(unsafe(path.read_text(encoding="utf-8"))) == KNOWN.get(path, [])


def test_of_a_published_file_only_tensors_are_read() -> None:
    calls = [node for node in ast.walk(ast.parse(MOLECULES.read_text())) if is_load(node)]
    assert [ast.unparse(call).endswith("weights_only=True)") for call in calls] == [True]


def is_load(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load('x', weights_only=True)",
        "yaml.load(text, Loader)",
        "np.load('x', allow_pickle=True)",
        "eval(text)",
    ],
)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    assert list(unsafe(source))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a stranger sends: runs, files of settings, and a plugin that they all name."""
    folder = tmp_path_factory.mktemp("stranger")
    plugin = folder / "evil.py"
    with other_methods():
        plugin.write_text(REGISTERED)
        load_plugin(plugin)
        trained = from_dict({**to_dict(CONFIG), "method": "dimmed", "plugin": [str(plugin)]})
        save_run(folder / "run", trained)
        save(trained, folder / "run" / "config.yaml")
        logged = make_config(method="dimmed", plugin=[str(plugin)])
        write_run_folder(folder / "logged", logged, {1000: (0.5, 0.5, 0.5)})
    plugin.write_text(REGISTERED + OPENED)
    for name, lines in {
        "own": f"plugin: [{plugin}]",
        "text": f"plugin: {plugin}",
        "vary": f"vary: {{plugin: [{plugin}, x]}}",
        "key": f'"plugin={plugin},x": 1',
        "config": f"config: {folder / 'run' / 'config.yaml'}",
    }.items():
        (folder / f"{name}.yaml").write_text(f"methods: dimmed\n{lines}\n")
    return folder


@pytest.mark.parametrize(
    ("command", "argv", "code"),
    [
        (report_mt10, ["logged", "--out=report"], 0),
        (evaluate_mt10, ["--run=run", "--episodes=1", "--workers=0", "--out=found"], 0),
        (train_mt10, ["--print-completion=bash"], 0),
        (train_mt10, ["--resume", "run"], 2),
        (train_mt10, ["--resume", "--run-dir=run", "--dry-run"], 2),
        (train_mt10, ["--config=run/config.yaml"], 2),
        (train_mt10, ["--config=run/config.yaml", "--method=dimmed", "--help"], 2),
        (sweep_mt10, ["--methods=dimmed", "--config=run/config.yaml", "--dry-run"], 2),
        *(
            (sweep_mt10, [f"--sweep={name}.yaml", "--dry-run"], 2)
            for name in ("own", "text", "vary", "key", "config")
        ),
    ],
)
def test_no_file_has_a_plugin_imported(
    command: Callable[[], None],
    argv: list[str],
    code: int,
    stranger: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(stranger)
    monkeypatch.setattr(sys, "argv", [command.__name__, *argv])
    with other_methods():
        if code:
            with pytest.raises(SystemExit) as stop:
                command()
            assert stop.value.code == code
            assert "--plugin" in capsys.readouterr().err
        else:
            command()
    assert not (stranger / "evil.py.opened").exists()


def test_a_policy_has_no_plugin_imported(stranger: Path) -> None:
    assert mtrl_ntk.load_policy(stranger / "run").task_names == CONFIG.env.tasks
    assert not (stranger / "evil.py.opened").exists()


def test_the_user_has_it_imported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(REGISTERED + OPENED)
    with other_methods():
        load_plugin(tmp_path / "mine.py")
    assert (tmp_path / "mine.py.opened").exists()
