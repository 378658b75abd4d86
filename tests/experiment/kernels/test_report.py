"""The report on kernels: what it draws, what it prints, and what it says when it cannot."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.kernels import report as kernel_report
from mtrl_ntk.experiment.kernels.report import report_kernels
from tests.experiment.diagnoses import write_run

GROUPS = (("reach-v3", "push-v3"), ("door-open-v3", "drawer-open-v3", "window-open-v3"))
ALL = ["affinity_actor.png", "affinity_critic.png", "eigenvalues.png"]


def report(
    *runs: Path, output: Path | None = None, least_affinity: float | None = None
) -> list[str]:
    """The lines that a report prints."""
    console = Console(file=StringIO(), width=200)
    report_kernels(runs, output=output, least_affinity=least_affinity, console=console)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def pictures(folder: Path) -> list[str]:
    for path in folder.iterdir():
        with Image.open(path) as picture:
            picture.load()
            assert (picture.format, picture.width > 400) == ("PNG", True)
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes longest, for tests that look at no picture."""
    monkeypatch.setattr(kernel_report, "save", lambda *_, **__: None)


def test_one_run_is_drawn_into_its_own_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", GROUPS)
    lines = report(run)
    assert pictures(run / "plots") == ALL
    assert sorted(lines[:3]) == [str(run / "plots" / name) for name in ALL]
    assert not any("no diagnoses" in line for line in lines)


@pytest.mark.usefixtures("undrawn")
def test_the_groups_are_listed_with_their_affinities(tmp_path: Path) -> None:
    lines = report(write_run(tmp_path / "run", GROUPS))
    for part in ("critic", "actor"):
        start = lines.index(f"run, {part}: groups by mean affinity over training")
        table = [line.split() for line in lines[start + 4 : start + 6]]
        assert [row[0] for row in table] == ["1", "2"]
        found = {frozenset("".join(row[3:]).split(",")) for row in table}
        assert found == {frozenset(group) for group in GROUPS}
        for row in table:
            assert float(row[1]) > 0.6
            assert abs(float(row[2])) < 0.2


@pytest.mark.usefixtures("undrawn")
def test_the_least_affinity_decides_how_many_groups_there_are(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", GROUPS)
    many, one = report(run, least_affinity=0.999), report(run, least_affinity=-1.0)
    assert sum(line.strip().startswith("5 ") for line in many) == 2
    assert sum(line.strip().startswith("2 ") for line in one) == 0


@pytest.mark.slow
def test_runs_stand_side_by_side_in_the_folder_asked_for(tmp_path: Path) -> None:
    first = write_run(tmp_path / "equal", GROUPS)
    second = write_run(tmp_path / "ntkmtl", (("reach-v3", "door-open-v3"), ("sweep-v3",)))
    lines = report(first, second, output=tmp_path / "a" / "b")
    assert pictures(tmp_path / "a" / "b") == ALL
    assert not (first / "plots").exists()
    assert sum("groups by mean affinity" in line for line in lines) == 4
    sizes = {}
    for name in ALL:
        with Image.open(tmp_path / "a" / "b" / name) as picture:
            sizes[name] = picture.size
    report(first)
    with Image.open(first / "plots" / "eigenvalues.png") as picture:
        assert sizes["eigenvalues.png"][0] > picture.width
    with Image.open(first / "plots" / "affinity_critic.png") as picture:
        assert sizes["affinity_critic.png"][1] > picture.height


@pytest.mark.usefixtures("undrawn")
def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / folder / "run", GROUPS) for folder in ("a", "b")]
    lines = report(*runs)
    for run in runs:
        assert any(line.startswith(f"{run}, critic: groups") for line in lines)


def test_a_run_without_diagnoses_gives_eigenvalues_and_a_hint(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", GROUPS, diagnosed=False)
    assert report(run) == [
        str(run / "plots" / "eigenvalues.png"),
        f"{run} holds no diagnoses of kernels: affinities and groups need a run with "
        "--kernel-every N",
    ]
    assert pictures(run / "plots") == ["eigenvalues.png"]


def test_a_run_killed_before_its_second_row_still_shows_its_diagnoses(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", GROUPS, num_rows=1)
    report(run)
    assert pictures(run / "plots") == ["affinity_actor.png", "affinity_critic.png"]


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", GROUPS)
    (tmp_path / "empty").mkdir()
    for wrong in ("none", "empty"):
        with pytest.raises(UserError, match=rf"{wrong} holds no run: there is no training\.csv"):
            report(run, tmp_path / wrong)


def test_a_run_that_has_just_begun_has_nothing_to_draw(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", GROUPS, num_rows=1, diagnosed=False)
    with pytest.raises(UserError, match=r"nothing to draw: training\.csv needs two rows"):
        report(run)
    assert not (run / "plots").exists()


def test_an_output_that_is_no_folder_is_the_users_mistake(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", GROUPS)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file: .*; choose another --output"):
        report(run, output=tmp_path / "file")


def test_a_damaged_diagnosis_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", GROUPS)
    (run / "kernels" / "critic-00000005.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"critic-00000005\.npz is damaged"):
        report(run)
