"""``evaluate_mt10``: which goals and episodes, what is kept, and what happens without OpenGL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.evaluation import evaluate as evaluation
from mtrl_ntk.experiment.evaluation.evaluate import evaluate_agent
from mtrl_ntk.experiment.options.sections import VideoConfig
from mtrl_ntk.experiment.videos.opengl import RenderingError
from tests.experiment.evaluation.asking import asked
from tests.saved import TASKS, save_run, with_env
from tests.videos import decode


def test_a_folder_that_cannot_be_made_is_an_error(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the folder.*choose --out"):
        evaluate_agent(asked(run=run_dir, out=tmp_path / "file" / "out"))


ONE: dict[str, Any] = {"tasks": ("reach-v3",), "evaluation_episodes": 1}


def test_by_default_results_go_into_the_runs_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(tmp_path / "run")
    evaluate_agent(asked(run=tmp_path / "run", **ONE))
    (out,) = (tmp_path / "run" / "evaluations").iterdir()
    said = capsys.readouterr().out
    assert f"results   {out}\n" in said
    assert "equal, seed 5, after 7 steps" in said
    assert "never met" in said
    assert "reach-v3" in said


def test_who_trained_for_one_goal_is_told_how_to_run_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(tmp_path / "run", with_env(goal_mode="fixed"))
    evaluate_agent(asked(run=tmp_path / "run", **ONE))
    assert "training had one per task, which --goals training runs" in capsys.readouterr().out


@pytest.fixture
def without_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise RenderingError("there is no OpenGL;\ninstall libegl1 and libgl1")

    monkeypatch.setattr(evaluation, "require_video", fail)


@pytest.mark.usefixtures("without_opengl")
def test_without_opengl_the_evaluation_goes_on(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_agent(asked(run=run_dir, out=tmp_path / "out", video=True, **ONE))
    assert capsys.readouterr().err == ("no video: there is no OpenGL; install libegl1 and libgl1\n")
    assert (tmp_path / "out" / "evaluation.json").exists()
    assert not (tmp_path / "out" / "videos").exists()


@pytest.mark.usefixtures("without_opengl")
def test_without_opengl_a_strict_video_fails_at_once(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(RenderingError):
        evaluate_agent(asked(run=run_dir, out=tmp_path / "out", video_strict=True, **ONE))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_opengl")
def test_who_wants_no_video_needs_no_opengl(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_agent(asked(run=run_dir, out=tmp_path / "out", **ONE))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("strict", [False, True])
def test_a_video_that_fails_does_not_take_the_numbers_with_it(
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    strict: bool,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RenderingError("the disk is full")

    monkeypatch.setattr(evaluation, "require_video", lambda _: "none")
    monkeypatch.setattr(evaluation, "film", fail)
    options = asked(run=run_dir, out=tmp_path / "out", video=True, video_strict=strict, **ONE)
    if strict:
        with pytest.raises(RenderingError, match="disk is full"):
            evaluate_agent(options)
    else:
        evaluate_agent(options)
        assert capsys.readouterr().err == "no video: the disk is full\n"
    assert (tmp_path / "out" / "evaluation.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("backend")
def test_videos_are_made_beside_the_numbers(run_dir: Path, tmp_path: Path) -> None:
    look = VideoConfig(video_size=128, video_stride=2)
    evaluate_agent(
        asked(run=run_dir, out=tmp_path, evaluation_episodes=1, video=True, gif=True, videos=look)
    )
    names = {path.name for path in (tmp_path / "videos").iterdir()}
    assert names == {"mosaic.mp4", "mosaic.gif", *(f"{task}.mp4" for task in TASKS)}
    reach, mosaic = (
        decode(tmp_path / "videos" / f"{name}.mp4").frames for name in ("reach-v3", "mosaic")
    )
    assert reach.shape[2] == 128
    assert mosaic.shape[2] == 3 * 64 + 2 * 4
    # Steps 0, 2, ..., 10, and a second of the last.
    assert len(reach) == 6 + 40
    assert (reach[0] != reach[-1]).any()
