"""``evaluate_mt10``: which goals and episodes, what is kept, and what happens without OpenGL."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.agents import Trained, load_trained, policy_of
from mtrl_ntk.experiment.config import RunConfig
from mtrl_ntk.experiment.evaluation import evaluate as evaluation
from mtrl_ntk.experiment.evaluation.episodes import evaluate, make_evaluation_envs
from mtrl_ntk.experiment.evaluation.evaluate import evaluate_agent
from mtrl_ntk.experiment.evaluation.options import UNSEEN_SEED, EvaluationOptions
from mtrl_ntk.experiment.evaluation.plan import Plan, make_plan
from mtrl_ntk.experiment.options.sections import EvaluationConfig, VideoConfig
from mtrl_ntk.experiment.types import EvaluationResult
from mtrl_ntk.experiment.videos.opengl import RenderingError
from mtrl_ntk.rl.envs import BENCHMARKS
from mtrl_ntk.rl.envs.task_env import TaskEnv
from tests.saved import CONFIG, STEPS, TASKS, save_run, with_env
from tests.videos import decode


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "run"
    save_run(folder)
    return folder


@pytest.fixture(scope="module")
def trained(run_dir: Path) -> Trained:
    return load_trained(run_dir)


def asked(**changes: Any) -> EvaluationOptions:  # noqa: ANN401 - fields of many types
    changes.setdefault("run", Path("run"))
    return EvaluationOptions(device="cpu", workers=0, **changes)


def plan_of(trained: Trained, **changes: Any) -> Plan:  # noqa: ANN401 - fields of many types
    return make_plan(asked(**changes), trained)


def as_trained_with(trained: Trained, config: RunConfig) -> Trained:
    return replace(trained, config=config)


# Plans


def test_by_default_all_goals_are_run_once_and_none_is_of_training(trained: Trained) -> None:
    plan = plan_of(trained)
    assert (plan.tasks, plan.trained_as) == (TASKS, TASKS)
    assert plan.episodes == 50
    assert plan.goal_seed == UNSEEN_SEED != trained.config.seed
    assert plan.env == replace(CONFIG.env, workers=0)
    assert plan.protocol["goal_seed"] == UNSEEN_SEED
    assert plan.protocol["evaluation_episodes"] == 50
    assert "never met" in str(plan.protocol["evaluation_goals"])
    assert plan.protocol["policy"] == "deterministic"
    assert plan.protocol["horizon"] == CONFIG.env.horizon
    assert json.loads(json.dumps(plan.protocol)) == plan.protocol


def test_unseen_goals_are_others_than_those_of_training(trained: Trained) -> None:
    plan = plan_of(trained)
    seen, unseen = (
        TaskEnv("reach-v3", seed=seed) for seed in (trained.config.seed, plan.goal_seed)
    )
    both = np.concatenate([seen.goals, unseen.goals])
    assert len(np.unique(both, axis=0)) == len(both) == 100
    for env in (seen, unseen):
        env.close()


def test_a_run_that_was_trained_with_the_usual_seed_gets_another(trained: Trained) -> None:
    unusual = as_trained_with(trained, replace(CONFIG, seed=UNSEEN_SEED))
    assert plan_of(unusual).goal_seed not in (UNSEEN_SEED, CONFIG.seed)


def test_a_seed_chooses_the_unseen_goals(trained: Trained) -> None:
    assert plan_of(trained, seed=8).goal_seed == 8
    with pytest.raises(ConfigError, match=r"seed is 5, the seed of training"):
        plan_of(trained, seed=CONFIG.seed)


def test_the_goals_of_training_are_those_of_its_seed(trained: Trained) -> None:
    plan = plan_of(trained, goals="training")
    assert plan.goal_seed == CONFIG.seed
    assert "the training goals" in str(plan.protocol["evaluation_goals"])
    with pytest.raises(ConfigError, match="training had no goals of assembly-v3"):
        plan_of(trained, goals="training", tasks=("reach-v3", "assembly-v3", "push-v3"))


@pytest.mark.parametrize(
    ("changes", "goal_mode", "episodes"),
    [
        ({}, "resampled", 50),
        ({"goals": "training"}, "fixed", 1),
        ({"goals": "training", "sampled": True}, "fixed", 50),
        ({"goals": "training", "evaluation_episodes": 4}, "fixed", 4),
        ({"evaluation_episodes": 4}, "resampled", 4),
    ],
)
def test_a_single_goal_of_training_is_run_once(
    trained: Trained, changes: dict[str, Any], goal_mode: str, episodes: int
) -> None:
    plan = plan_of(as_trained_with(trained, with_env(goal_mode="fixed")), **changes)
    assert plan.env.goal_mode == goal_mode
    assert plan.episodes == episodes
    assert plan.protocol["goal_mode"] == "fixed"


def test_samples_say_their_seed(trained: Trained) -> None:
    plan = plan_of(trained, sampled=True, goals="training", seed=8)
    assert (plan.goal_seed, plan.action_seed) == (CONFIG.seed, 8)
    assert plan.protocol["policy"] == "sampled with seed 8"
    assert plan_of(trained, sampled=True).action_seed != CONFIG.seed


def test_other_tasks_are_run_in_the_places_of_those_of_training(trained: Trained) -> None:
    others = ("assembly-v3", "basketball-v3", "bin-picking-v3")
    plan = plan_of(trained, tasks=others)
    assert (plan.tasks, plan.trained_as) == (others, TASKS)
    assert plan.env.tasks == others
    some = plan_of(trained, tasks=("push-v3",))
    assert (some.tasks, some.trained_as) == (("push-v3",), ("push-v3",))


def test_a_benchmark_is_its_tasks(trained: Trained) -> None:
    ten = replace(trained, task_names=BENCHMARKS["MT10"][::-1])
    assert plan_of(ten, benchmark="MT10").tasks == BENCHMARKS["MT10"]
    assert plan_of(ten, benchmark="MT10").trained_as == BENCHMARKS["MT10"]
    with pytest.raises(UserError, match="not 50"):
        plan_of(ten, benchmark="MT50")


def test_an_unknown_task_is_an_error(trained: Trained) -> None:
    with pytest.raises(ConfigError, match="did you mean 'reach-v3'"):
        plan_of(trained, tasks=("reach-v2",))


# Evaluations


EPISODES = 3
Evaluated = tuple[Path, EvaluationResult]
"""Folder of the results, and what was returned."""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def evaluated(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    out = tmp_path_factory.mktemp("results") / "of" / "one"
    return out, evaluate_agent(asked(run=run_dir, evaluation_episodes=EPISODES, out=out))


def test_an_evaluation_leaves_its_numbers(evaluated: Evaluated, trained: Trained) -> None:
    out, result = evaluated
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json",
        "evaluation.csv",
        "episodes.csv",
    }
    envs = make_evaluation_envs(
        CONFIG.env, EvaluationConfig(evaluation_episodes=EPISODES), seed=UNSEEN_SEED
    )
    policy = policy_of(trained.agent)
    expected = evaluate(policy, envs, episodes=EPISODES, seed=UNSEEN_SEED)
    envs.close()
    assert result.success_rates.tolist() == expected.success_rates.tolist()
    assert result.mean_returns.tolist() == expected.mean_returns.tolist()
    content = json.loads((out / "evaluation.json").read_text())
    assert [task["task"] for task in content["tasks"]] == list(TASKS)
    assert [task["mean_return"] for task in content["tasks"]] == expected.mean_returns.tolist()
    assert content["mean_success_rate"] == expected.mean_success_rate
    assert content["protocol"] == plan_of(trained, evaluation_episodes=EPISODES).protocol
    assert content["agent"]["checkpoint"] == str(trained.folder)
    assert content["agent"]["counters"]["vector_steps"] == STEPS
    assert content["versions"]["metaworld"]


def test_every_row_says_what_it_means(evaluated: Evaluated, trained: Trained) -> None:
    table = rows(evaluated[0] / "evaluation.csv")
    assert [row["task"] for row in table] == [*TASKS, "mean"]
    protocol = plan_of(trained, evaluation_episodes=EPISODES).protocol
    for row in table:
        assert {name: row[name] for name in protocol} == {k: str(v) for k, v in protocol.items()}
        assert (row["method"], row["training_seed"], row["vector_steps"]) == ("equal", "5", "7")
        assert row["episodes"] == str(EPISODES)
    returns = [float(row["mean_return"]) for row in table]
    assert returns[:-1] == evaluated[1].mean_returns.tolist()
    assert returns[-1] == pytest.approx(np.mean(returns[:-1]))


def test_the_tables_agree(evaluated: Evaluated) -> None:
    episodes = rows(evaluated[0] / "episodes.csv")
    assert [(row["task"], row["episode"]) for row in episodes] == [
        (task, str(episode)) for task in TASKS for episode in (1, 2, 3)
    ]
    for row in rows(evaluated[0] / "evaluation.csv")[:-1]:
        own = [each for each in episodes if each["task"] == row["task"]]
        for name, mean in (
            ("success", "success_rate"),
            ("return", "mean_return"),
            ("length", "mean_length"),
        ):
            assert float(row[mean]) == pytest.approx(np.mean([float(each[name]) for each in own]))


def test_results_are_not_overwritten(evaluated: Evaluated, run_dir: Path) -> None:
    before = (evaluated[0] / "evaluation.json").read_bytes()
    with pytest.raises(UserError, match="already holds an evaluation; choose another --out"):
        evaluate_agent(asked(run=run_dir, out=evaluated[0]))
    assert (evaluated[0] / "evaluation.json").read_bytes() == before


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


# Videos


@pytest.fixture
def without_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
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

    monkeypatch.setattr(evaluation, "require_video", lambda: "none")
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
