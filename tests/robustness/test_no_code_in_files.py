"""Nothing that the package reads can run code: no pickle, no evaluation, no unsafe YAML."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mtrl_ntk

FILES = sorted(Path(mtrl_ntk.__file__).parent.rglob("*.py"))
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
    assert list(unsafe(path.read_text(encoding="utf-8"))) == []


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
