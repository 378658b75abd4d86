"""Videos of a run: when they are made, where they go, and that a run goes on without them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from mtrl_ntk.experiment.checkpoints.archive import load_newest
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.options.sections import EvaluationConfig, LoopConfig, VideoConfig
from mtrl_ntk.experiment.training import videos as training_video
from mtrl_ntk.experiment.training.run import train
from mtrl_ntk.experiment.training.videos import TrainingVideos
from mtrl_ntk.experiment.types import PolicyFunction
from mtrl_ntk.experiment.videos.encoding import mp4_writer
from mtrl_ntk.experiment.videos.filming import Scene
from mtrl_ntk.experiment.videos.opengl import RenderingError
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.sac import SacConfig
from mtrl_ntk.rl.types import FloatArray

TASKS = ("reach-v3", "drawer-close-v3")
CONFIG = RunConfig(
    device="cpu",
    threads=1,
    seed=3,
    env=EnvConfig(tasks=TASKS, horizon=10, workers=0),
    sac=SacConfig(batch_size=8, width=16, depth=2),
    loop=LoopConfig(total_steps=25, warmstart_steps=10, replay_capacity=100, log_every=5),
    evaluation=EvaluationConfig(evaluate_every=5, evaluation_episodes=1, video_every=10),
    video=VideoConfig(video_size=64, video_stride=5),
)


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Scene, Path]]:
    """Films that are grey; what they were asked to show."""
    filmed: list[tuple[Scene, Path]] = []

    def film(
        policy: PolicyFunction, scene: Scene, _: VideoConfig, path: Path, *, backend: str
    ) -> None:
        assert backend == "none"
        assert callable(policy)
        filmed.append((scene, path))
        with mp4_writer(path, 16.0) as write:
            for level in (50, 100, 150):
                write(Image.new("RGB", (64, 48), (level, level, level)))

    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(training_video, "require_video", lambda _: "none")
    monkeypatch.setattr(training_video, "film", film)
    return filmed


def make(config: RunConfig, run_dir: Path, said: list[str]) -> TrainingVideos:
    return TrainingVideos(config, TASKS, run_dir, said.append)


def with_every(video_every: int) -> RunConfig:
    return replace(CONFIG, evaluation=replace(CONFIG.evaluation, video_every=video_every))


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize(
    ("every", "filmed"),
    [(0, []), (1, [5, 10, 15, 20, 25]), (7, [10, 15, 25]), (10, [10, 20, 25]), (99, [25])],
)
def test_videos_are_made_at_the_evaluations_that_reach_the_interval(
    tmp_path: Path, every: int, filmed: list[int]
) -> None:
    videos = make(with_every(every), tmp_path, [])
    evaluations = [-1, 5, 10, 15, 20, 25]
    due = [step for before, step in pairwise(evaluations) if videos.is_due(step, before)]
    assert due == filmed


def test_who_wants_no_videos_needs_no_opengl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_video, "require_video", pytest.fail)
    assert not make(with_every(0), tmp_path, []).is_due(25, 20)


def test_without_opengl_it_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise RenderingError("there is\nno OpenGL")

    monkeypatch.setattr(training_video, "require_video", fail)
    said: list[str] = []
    videos = make(CONFIG, tmp_path, said)
    assert not videos.is_due(25, 20)
    assert said == ["no video: there is no OpenGL"]


def test_a_video_that_fails_is_the_last_that_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RenderingError("the disk is full")

    monkeypatch.setattr(training_video, "require_video", lambda _: "none")
    monkeypatch.setattr(training_video, "film", fail)
    said: list[str] = []
    videos = make(CONFIG, tmp_path, said)
    assert videos.is_due(10, 5)
    assert videos.record(still, 10) is None
    assert said == ["no video: the disk is full"]
    assert not videos.is_due(20, 15)


def still(observations: FloatArray) -> FloatArray:
    return observations[..., :4] * 0


def images(run_dir: Path) -> list[int]:
    """Steps of the videos that TensorBoard shows."""
    events = EventAccumulator(str(run_dir), size_guidance={"images": 0})
    events.Reload()
    return [event.step for event in events.Images("training_videos/evaluation")]


def test_a_run_leaves_its_videos_in_its_folder_and_in_tensorboard(
    tmp_path: Path, drawing: list[tuple[Scene, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    train(replace(CONFIG, run_dir=run_dir))
    names = sorted(path.name for path in (run_dir / "videos").iterdir())
    assert names == ["step-000000010.mp4", "step-000000020.mp4", "step-000000025.mp4"]
    assert images(run_dir) == [10, 20, 25]
    for scene, _ in drawing:
        assert scene.tasks == TASKS
        assert scene.seed == CONFIG.seed
        assert scene.rules.goal_mode == "in_order"
        assert scene.rules.horizon == CONFIG.env.horizon
    assert capsys.readouterr().out.count("video: ") == 3


@pytest.mark.slow
def test_videos_change_nothing(tmp_path: Path, drawing: list[tuple[Scene, Path]]) -> None:
    for every in (0, 5):
        train(replace(with_every(every), run_dir=tmp_path / str(every)))
    assert len(drawing) == 5
    without, filmed = (
        load_newest(tmp_path / str(every) / "checkpoint").checkpoint.tensors for every in (0, 5)
    )
    assert without.keys() == filmed.keys()
    assert all(torch.equal(tensor, filmed[name]) for name, tensor in without.items())


@pytest.mark.slow
@pytest.mark.usefixtures("backend")
def test_a_run_films_itself(tmp_path: Path) -> None:
    loop = replace(CONFIG.loop, total_steps=10)
    train(replace(CONFIG, run_dir=tmp_path / "run", loop=loop))
    assert images(tmp_path / "run") == [10]
    assert (tmp_path / "run" / "videos" / "step-000000010.mp4").stat().st_size > 1000
