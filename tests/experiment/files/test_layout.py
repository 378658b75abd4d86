"""A folder holds a run as soon as anything has come of training, and not before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.files.layout import (
    CHECKPOINT,
    CONFIG,
    EVALUATION_CSV,
    KERNELS,
    RUN_INFO,
    TRAINING_CSV,
    VIDEOS,
    holds_run,
    new_folder,
    refuse_run,
    remove_failed_start,
    written_at_start,
)

RESULTS = (
    *(TRAINING_CSV, EVALUATION_CSV),
    *(f"{CHECKPOINT}/replay/part", f"{KERNELS}/critic.npz", f"{VIDEOS}/mosaic.mp4"),
)


def put(path: Path, content: str = "row\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.parametrize("name", RESULTS)
def test_any_result_makes_a_run(name: str, tmp_path: Path) -> None:
    put(tmp_path / name)
    assert holds_run(tmp_path)
    with pytest.raises(UserError, match="already holds a run; choose another folder"):
        refuse_run(tmp_path)


def test_what_a_start_writes_is_no_run_yet(tmp_path: Path) -> None:
    refuse_run(tmp_path / "missing")
    for name in (CONFIG, RUN_INFO, "events.out.tfevents.1", "notes.txt"):
        put(tmp_path / name)
    for name in (TRAINING_CSV, EVALUATION_CSV):
        put(tmp_path / name, "")
    (tmp_path / CHECKPOINT).mkdir()
    refuse_run(tmp_path)


def start(folder: Path) -> None:
    for name in (CONFIG, RUN_INFO, "events.out.tfevents.1", "wandb/log", "notes.txt"):
        put(folder / name)
    for name in (TRAINING_CSV, EVALUATION_CSV):
        put(folder / name, "")


def test_a_failed_start_takes_away_what_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path / CONFIG, "seed: 1\n")
    before = written_at_start(tmp_path)
    start(tmp_path)
    remove_failed_start(tmp_path, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, "notes.txt"]


@pytest.mark.parametrize("name", RESULTS)
def test_a_run_stays_however_it_ends(name: str, tmp_path: Path) -> None:
    start(tmp_path)
    put(tmp_path / name)
    remove_failed_start(tmp_path, set())
    assert {CONFIG, RUN_INFO, Path(name).parts[0]} <= {path.name for path in tmp_path.iterdir()}


def test_no_two_get_the_same_folder(tmp_path: Path) -> None:
    at_once = 8
    barrier = Barrier(at_once)

    def make(stack: ExitStack) -> Path:
        barrier.wait()
        return stack.enter_context(new_folder(tmp_path / "a" / "b" / "now", "--out"))

    with ExitStack() as stack, ThreadPoolExecutor(at_once) as pool:
        folders = set(pool.map(make, [stack] * at_once))
        assert {folder.name for folder in folders} == {"now", *(f"now-{n}" for n in range(2, 9))}
        assert all(folder.is_dir() for folder in folders)
        put(tmp_path / "a" / "b" / "now-3" / "result")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["now-3"]


def test_a_folder_that_stays_empty_leaves_nothing(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b" / "now", "--out"):
        put(tmp_path / "a" / "other")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other"]
    with (
        pytest.raises(UserError, match=r"cannot make the folder .*now: .*; choose --out"),
        new_folder(tmp_path / "a" / "other" / "now", "--out"),
    ):
        pass
