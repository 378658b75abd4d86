"""Files that no command may accept, beside a run, an agent and a finished sweep that are whole."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from tests.experiment.run_folders import write_methods
from tests.saved import save_run

_LETTERS = "abcdefghijkl"
BOMB = "tasks: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(_LETTERS)
)
"""Two kilobytes that aliases make 9^12 words of."""

FILES: Mapping[str, bytes | str] = {
    "file": "a text",
    "alias.yaml": "width: &a 128\ndepth: *a\n",
    "binary.yaml": "seed: !!binary x\n",
    "bomb.yaml": BOMB,
    "code.yaml": "seed: !!python/object/apply:os.system ['touch hacked']\n",
    "date.yaml": "seed: 2020-13-45\n",
    "deep.yaml": "seed: " + "{a: " * 1500,
    "empty.yaml": "",
    "hex.yaml": "width: 0x" + "f" * 6000 + "\n",
    "key.yaml": "? [a, b]\n: 2\n",
    "large.yaml": "seed: 1\n" + "#" * 200_000,
    "latin.yaml": b"seed: 1\nmethod: \xe9\n",
    "list.yaml": "- seed\n",
    "long.yaml": "seed: " + "9" * 6000 + "\n",
    "method.yaml": "method: [equal]\n",
    "nested.yaml": "sac: {width: 3}\n",
    "nothing.yaml": "width:\n",
    "nul.yaml": b"seed: \x00\n",
    "number.yaml": "1: 2\n",
    "sweep-dict.yaml": "methods: {equal: 1}\n",
    "sweep-jobs.yaml": "methods: equal\njobs: many\n",
    "sweep-key.yaml": "methods: equal\n1: 2\n",
    "sweep-self.yaml": "methods: equal\nsweep: other.yaml\n",
    "sweep-seeds.yaml": "methods: equal\nseeds: []\n",
    "sweep-value.yaml": "methods: equal\nwidth: {a: 1}\n",
    "sweep-vary.yaml": "methods: equal\nvary: 3\n",
    "sweep-widht.yaml": "methods: equal\nvary: {widht: [1, 2]}\n",
    "tab.yaml": "seed:\t1\n\tx: 2\n",
    "text.yaml": "width: wide\n",
    "true.yaml": "width: true\n",
    "twice.yaml": "seed: 1\nwidth: 3\nseed: 2\n",
    "unknown.yaml": "widht: 3\n",
}


def write_world(folder: Path) -> None:
    """Writes the files, and folders ``agent``, ``runs/equal-seed1``, ``empty`` and ``foreign``."""
    for name, content in FILES.items():
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    save_run(folder / "agent")
    write_methods(folder / "runs", {"equal": 0.5}, seeds=(1,))
    (folder / "empty").mkdir()
    foreign = folder / "foreign" / "checkpoint" / "step-000000001"
    foreign.mkdir(parents=True)
    (foreign / "manifest.json").write_text('{"format": "another program"}')


def listing(folder: Path, but: Path | None = None) -> list[tuple[str, int, int]]:
    """All in a folder, files with sizes and times, so that nothing can change unseen.

    Args:
        folder: The folder.
        but: A folder in it that is left out.
    """
    return [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        if path.is_file()
        else (str(path), 0, 0)
        for path in sorted(folder.rglob("*"))
        if but is None or not path.is_relative_to(but)
    ]
