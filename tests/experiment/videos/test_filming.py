"""Videos: which moments they show, that they show what was evaluated, and the right way up."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mtrl_ntk.experiment.evaluation.episodes import (
    evaluation_rules,
    make_evaluation_envs,
    run_episodes,
)
from mtrl_ntk.experiment.options.sections import EvaluationConfig, VideoConfig
from mtrl_ntk.experiment.videos import filming as video
from mtrl_ntk.experiment.videos.filming import Scene, episode_frames, film, make_camera
from mtrl_ntk.experiment.videos.frames import Frame, Mosaic, Pixels
from mtrl_ntk.experiment.videos.opengl import RenderingError
from mtrl_ntk.rl.envs import EnvConfig
from mtrl_ntk.rl.envs.task_env import TaskEnv
from mtrl_ntk.rl.suites.metaworld.suite import METAWORLD
from mtrl_ntk.rl.suites.suite import EpisodeRules
from mtrl_ntk.rl.types import FloatArray
from tests.simulations import sawyer
from tests.videos import decode

TASKS = ("drawer-close-v3", "reach-v3")
SIZE = 64
ENVS = EnvConfig(tasks=TASKS, horizon=60, workers=0)
SCENE = Scene(ENVS.task_suite, TASKS, evaluation_rules(ENVS), seed=3)
CONFIG = VideoConfig(video_size=SIZE, video_stride=8, video_episodes=2)


def push(observations: FloatArray) -> FloatArray:
    """Moves all hands ahead, which closes drawers and reaches nothing."""
    return np.tile(np.array([0.0, 1.0, -0.3, 0.0], np.float32), (*observations.shape[:2], 1))


class BlindCamera:
    """Takes grey pictures, the brighter the later."""

    taken = 0

    def __init__(self, *_: object) -> None:
        pass

    def picture(self) -> Pixels:
        BlindCamera.taken += 1
        return np.full((SIZE, SIZE, 3), 40 + BlindCamera.taken % 160, np.uint8)

    def close(self) -> None:
        pass


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "make_camera", BlindCamera)


@pytest.fixture(scope="module")
def reach() -> Iterator[TaskEnv]:
    env = TaskEnv("reach-v3", EpisodeRules(horizon=10, goal_mode="in_order"), seed=0)
    yield env
    env.close()


@pytest.mark.parametrize(
    ("stride", "steps"),
    [(1, list(range(11))), (4, [0, 4, 8, 10]), (5, [0, 5, 10]), (80, [0, 10])],
)
def test_an_episode_is_shown_from_its_start_to_its_end(
    reach: TaskEnv, stride: int, steps: list[int]
) -> None:
    def still(_: FloatArray) -> FloatArray:
        return np.zeros(4, np.float32)

    frames = list(episode_frames(still, reach, BlindCamera().picture, stride))
    captions = [frame.caption for frame in frames]
    assert [caption.step for caption in captions] == steps
    assert [caption.over for caption in captions] == [False] * (len(steps) - 1) + [True]
    assert {(caption.task, caption.horizon) for caption in captions} == {("reach-v3", 10)}
    assert {caption.goal for caption in captions} == {reach.goal_index}
    returns = [caption.episode_return for caption in captions]
    assert returns[0] == 0
    assert (np.diff(returns) > 0).all()


def test_the_policy_sees_the_task_that_is_filmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "make_camera", BlindCamera)
    seen: list[list[bool]] = []

    def policy(observations: FloatArray) -> FloatArray:
        assert observations.shape == (2, 1, 39)
        seen.append([bool(each.any()) for each in observations])
        return push(observations)

    frames = list(video._frames(policy, SCENE, 1, CONFIG, 10.0, "none"))
    assert {frame.caption.task for frame in frames} == {"reach-v3"}
    assert seen
    assert all(each == [False, True] for each in seen)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """All frames that go into a mosaic."""
    frames: list[Frame] = []
    add = Mosaic.add

    def keep(mosaic: Mosaic, index: int, frame: Frame) -> None:
        frames.append(frame)
        add(mosaic, index, frame)

    monkeypatch.setattr(Mosaic, "add", keep)
    return frames


@pytest.mark.usefixtures("blind")
def test_a_video_shows_the_episodes_of_the_evaluation(tmp_path: Path, kept: list[Frame]) -> None:
    pytest.importorskip("imageio_ffmpeg")
    reported: list[None] = []
    files = film(
        push,
        SCENE,
        CONFIG,
        tmp_path / "all" / "mosaic.mp4",
        backend="none",
        task_folder=tmp_path / "each",
        report=lambda: reported.append(None),
    )
    assert files == [
        tmp_path / "all" / "mosaic.mp4",
        tmp_path / "each" / "drawer-close-v3.mp4",
        tmp_path / "each" / "reach-v3.mp4",
    ]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(files)
    assert len(reported) == 2
    envs = make_evaluation_envs(ENVS, EvaluationConfig(evaluation_episodes=2), seed=SCENE.seed)
    episodes = run_episodes(push, envs, episodes=2, seed=SCENE.seed)
    envs.close()
    assert episodes.successes.any()
    assert not episodes.successes.all()
    ends = {
        (TASKS.index(frame.caption.task), frame.caption.goal): frame.caption
        for frame in kept
        if frame.caption.over
    }
    assert sorted(ends) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for place, caption in ends.items():
        assert caption.success == episodes.successes[place]
        assert caption.step == episodes.lengths[place]
        assert caption.episode_return == episodes.returns[place]


@pytest.mark.usefixtures("blind")
def test_a_video_plays_at_the_pace_of_the_simulation(tmp_path: Path, kept: list[Frame]) -> None:
    film(push, SCENE, CONFIG, tmp_path / "m.mp4", backend="none", task_folder=tmp_path)
    each = [len([frame for frame in kept if frame.caption.task == task]) for task in TASKS]
    # Of 60 steps: 0, 8, ..., 56, 60; then a second of the last, twice.
    assert each[1] == 2 * (9 + 10)
    mosaic = decode(tmp_path / "m.mp4")
    assert "10 fps" in mosaic.stream
    assert len(mosaic.frames) == max(each)
    assert [len(decode(tmp_path / f"{task}.mp4").frames) for task in TASKS] == each


@pytest.mark.usefixtures("blind")
def test_a_failure_in_the_middle_leaves_no_half_video(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    calls: list[None] = []

    def fail(observations: FloatArray) -> FloatArray:
        calls.append(None)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return push(observations)

    with pytest.raises(KeyboardInterrupt):
        film(fail, SCENE, CONFIG, tmp_path / "m.mp4", backend="none", task_folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_opengl_that_does_not_draw_is_a_line(reach: TaskEnv) -> None:
    with pytest.raises(RenderingError, match="nonsense cannot draw"):
        make_camera(reach, CONFIG, "nonsense")


def test_without_an_encoder_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RenderingError, match="pip install imageio-ffmpeg"):
        video.require_video(METAWORLD)


# Pictures


@pytest.fixture(scope="module")
def scene() -> Iterator[TaskEnv]:
    """A scene with a blue goal above the table."""
    env = TaskEnv("pick-place-v3", EpisodeRules(goal_mode="in_order"), seed=3)
    env.reset()
    yield env
    env.close()


def place_of_goal(env: TaskEnv, name: str, size: int) -> tuple[float, float, float]:
    """Row and column of the goal as geometry has it, and how far up "up" points in the world.

    The axes of a camera that is mounted upside down are both reversed, which is a rotation.
    """
    model, data = sawyer(env).model, sawyer(env).data
    camera = model.camera(name).id
    axes = data.cam_xmat[camera].reshape(3, 3).T.copy()
    if name.startswith("corner"):
        axes[:2] *= -1
    right, up, back = axes @ (data.site("goal").xpos - data.cam_xpos[camera])
    focal = size / 2 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
    return size / 2 + focal * up / back, size / 2 - focal * right / back, float(axes[1, 2])


@pytest.mark.slow
@pytest.mark.parametrize("camera", METAWORLD.cameras)
def test_pictures_are_the_right_way_up_and_not_mirrored(
    scene: TaskEnv, backend: str, camera: str
) -> None:
    size = 160
    taker = make_camera(scene, VideoConfig(video_camera=camera, video_size=size), backend)
    picture = taker.picture().astype(int)
    taker.close()
    assert picture.shape == (size, size, 3)
    row, column, upwards = place_of_goal(scene, camera, size)
    assert upwards > -0.1
    blue = (picture[..., 2] > 150) & (picture[..., :2].max(2) < 80)
    if camera == "gripperPOV":  # the goal is behind the gripper
        assert not blue.any()
    else:
        assert blue.any()
        rows, columns = np.nonzero(blue)
        assert (rows.mean(), columns.mean()) == pytest.approx((row, column), abs=4)


@pytest.mark.slow
def test_pictures_follow_the_simulation_and_any_size_is_possible(
    scene: TaskEnv, backend: str
) -> None:
    taker = make_camera(scene, VideoConfig(video_size=701), backend)
    before = taker.picture()
    again = taker.picture()
    for _ in range(5):
        scene.step(np.array([1.0, 1.0, 1.0, 1.0]))
    after = taker.picture()
    taker.close()
    assert before.shape == (700, 700, 3)  # H.264 needs even numbers
    assert (before == again).all()
    assert (before != after).any()
