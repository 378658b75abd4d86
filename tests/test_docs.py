"""The Python blocks of the documentation run as they stand, in order, in a folder of their own."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.plugins import other_methods
from tests.saved import save_run

ROOT = Path(__file__).resolve().parents[1]
RUN = "runs/mt10_quick/ntkmtl-seed3-20260101-120000"
"""The run of the README's example."""


def blocks(path: str) -> list[str]:
    """The blocks of a page, or a notebook as one, with the numbers that comments give for tests."""
    text = (ROOT / path).read_text()
    if path.endswith(".ipynb"):
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        found = ["\n".join("".join(cell["source"]) for cell in cells)]
    else:
        found = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r"[\d_]+(\W*)# in the tests: (\d+)", r"\2\1", block) for block in found]


def run_in_order(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, block in enumerate(blocks(path), 1):
        module = ModuleType(f"example_{number}")  # each block has to stand for itself
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(block, f"{path}, block {number}", "exec"), vars(module))


def test_numbers_for_tests_replace_those_of_the_page() -> None:
    (loop,) = [block for block in blocks("docs/api.md") if "envs.step(actions)" in block]
    assert "    for step in range(40):  \n" in loop
    assert all("in the tests" not in block for block in blocks("docs/api.md"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the library about its own spaces
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.slow
def test_the_examples_of_the_python_api_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    run_in_order("docs/api.md", monkeypatch)
    torch.set_num_threads(threads)
    assert "torch.Size([3, 4])" in capsys.readouterr().out


def test_the_recipes_of_balancing_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_order("docs/balancing.md", monkeypatch)
    assert capsys.readouterr().out.count("[") == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the library about its own spaces
@pytest.mark.parametrize("page", ["README.md", "docs/adding_a_method.md", "docs/first_agent.ipynb"])
def test_the_examples_of_other_pages_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_run(tmp_path / RUN)
    with other_methods():
        run_in_order(page, monkeypatch)
