"""The Python blocks of the documentation run as they stand, in order, in a folder of their own."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mtrl_ntk.experiment.checkpoints.checkpoint import save_checkpoint
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
        named = re.match(r"# (\w+)\.py\n", block)  # a file that later blocks import
        # Others have to stand for themselves.
        module = ModuleType(named[1] if named else f"example_{number}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(block, f"{path}, block {number}", "exec"), vars(module))


def test_numbers_for_tests_replace_those_of_the_page() -> None:
    (loop,) = [block for block in blocks("docs/api.md") if "envs.step(actions)" in block]
    assert "    for step in range(40):  \n" in loop
    assert all("in the tests" not in block for block in blocks("docs/api.md"))


PAGES = sorted(
    page
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.ipynb"))
    if blocks(page := path.relative_to(ROOT).as_posix())
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the library about its own spaces
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_run(tmp_path / RUN)
    about: dict[str, object] = {"findings": [], "counters": {}, "config": {}}
    save_checkpoint(tmp_path / "runs/mine/diagnosis", {}, about)
    threads = torch.get_num_threads()
    with other_methods():
        run_in_order(page, monkeypatch)
    torch.set_num_threads(threads)
