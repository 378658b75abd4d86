"""Finding an OpenGL: what is tried, in which order, and what is said where nothing works."""

from __future__ import annotations

import os
import sys

import pytest

from mtrl_ntk.experiment.videos import opengl as rendering
from mtrl_ntk.experiment.videos.opengl import (
    RenderingError,
    drop_broken_backend,
    find_backend,
    using,
)


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was tried; none of it works."""
    names: list[str] = []

    def why_not(name: str, _: str) -> str:
        names.append(name)
        return "it broke"

    monkeypatch.setattr(rendering, "_why_not", why_not)
    return names


def only(working: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        rendering, "_why_not", lambda name, _: None if name == working else "it broke"
    )


@pytest.mark.usefixtures("tried")
def test_without_any_the_packages_are_named() -> None:
    with pytest.raises(RenderingError, match="apt-get install libegl1 libgl1") as error:
        find_backend()
    assert "\n" not in str(error.value)


def test_a_window_system_is_tried_last_and_only_where_there_is_a_display(
    tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RenderingError):
        find_backend()
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(RenderingError):
        find_backend()
    assert tried == ["egl", "osmesa", "egl", "osmesa", "glfw"]


def test_other_systems_have_windows_only(tried: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(RenderingError):
        find_backend()
    assert tried == ["glfw"]


def test_the_first_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    only("osmesa", monkeypatch)
    assert find_backend() == "osmesa"


def test_the_users_choice_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    only("glfw", monkeypatch)
    assert find_backend() == "glfw"


def test_a_choice_that_cannot_draw_is_not_replaced(
    tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(RenderingError, match=r"MUJOCO_GL is osmesa.*it broke.*unset it"):
        find_backend()
    assert tried == ["osmesa"]


def test_drawing_can_be_turned_off(tried: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "Disable")
    with pytest.raises(RenderingError, match="turns drawing off"):
        find_backend()
    assert tried == []


def test_a_choice_that_breaks_mujoco_is_dropped_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    drop_broken_backend()
    assert "MUJOCO_GL" not in os.environ
    said = capsys.readouterr().err
    assert said.startswith("MUJOCO_GL=nonsense does not work here and is ignored: RuntimeError:")
    assert said.count("\n") == 1


def test_a_choice_that_works_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    drop_broken_backend()
    assert os.environ["MUJOCO_GL"] == "disable"
    assert capsys.readouterr().err == ""


def test_without_a_choice_nothing_is_tried(tried: list[str]) -> None:
    drop_broken_backend()
    assert tried == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("pass", None),
        ("import os; assert os.environ['MUJOCO_GL'] == 'egl'", None),
        ("import os; os._exit(3)", "exit code 3"),
        ("raise OSError('no driver')", "OSError: no driver"),
        ("raise OSError('very ' * 100)", "OSError: " + "very " * 21 + "..."),
    ],
)
def test_a_program_is_tried_in_a_process_of_its_own(program: str, reason: str | None) -> None:
    assert rendering._why_not("egl", program) == reason
    assert "MUJOCO_GL" not in os.environ


def test_a_program_that_hangs_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_TIMEOUT_S", 0.2)
    reason = rendering._why_not("egl", "import time; time.sleep(60)")
    assert reason == "no answer within 0.2 s"


@pytest.mark.parametrize("before", [None, "glfw"])
def test_a_backend_is_used_for_a_while(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    if before is not None:
        monkeypatch.setenv("MUJOCO_GL", before)
    with using("egl"):
        assert os.environ["MUJOCO_GL"] == "egl"
    assert os.environ.get("MUJOCO_GL") == before
