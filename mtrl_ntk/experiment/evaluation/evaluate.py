"""What ``evaluate_mt10`` does: runs a trained agent, keeps the numbers, and shows it at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from mtrl_ntk.errors import UserError
from mtrl_ntk.experiment.agents import LAST, Trained, load_trained, policy_on
from mtrl_ntk.experiment.evaluation.episodes import (
    Episodes,
    evaluation_rules,
    make_evaluation_envs,
    run_episodes,
)
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.evaluation.plan import Plan, make_plan
from mtrl_ntk.experiment.evaluation.results import (
    EPISODES_CSV,
    RESULT_CSV,
    RESULT_JSON,
    save_results,
)
from mtrl_ntk.experiment.files.layout import EVALUATIONS, VIDEOS, new_folder
from mtrl_ntk.experiment.logs.progress import EMPTY, print_result, standard_output
from mtrl_ntk.experiment.logs.streams import show_line
from mtrl_ntk.experiment.options.sections import EvaluationConfig
from mtrl_ntk.experiment.types import EvaluationResult, PolicyFunction
from mtrl_ntk.experiment.videos.encoding import write_gif
from mtrl_ntk.experiment.videos.filming import Scene, film, require_video
from mtrl_ntk.experiment.videos.opengl import RenderingError
from mtrl_ntk.rl.suites.registry import load_suite
from mtrl_ntk.rl.suites.suite import Suite


def evaluate_agent(options: EvaluationOptions) -> EvaluationResult:
    """Evaluates a trained agent, prints the table, and keeps it with its protocol and videos.

    Raises:
        UserError: If there is nothing that can be evaluated as asked for.
    """
    assert options.source is not None, "options.check_together() was not called"
    if options.suite is not None:
        load_suite(options.suite)
    named = str(options.checkpoint) if options.run and options.checkpoint else LAST
    trained = load_trained(options.source, options.device, checkpoint=named)
    plan = make_plan(options, trained.config, trained.task_names)
    backend = _find_backend(options, plan.env.task_suite)
    with _folder(options.out, trained) as out:
        policy = policy_on(trained, plan.tasks, sampled=options.sampled, seed=plan.action_seed)
        console = standard_output()
        console.print(Text(_announcement(plan, trained)), soft_wrap=True)
        result = _evaluate(plan, trained, policy, out, console)
        print_result(result, console)
        console.print(Text(f"results   {out}"), soft_wrap=True)
        if backend is not None:
            _record(options, plan, policy, backend, out, console)
        return result


def evaluate_unseen(run: Path, console: Console) -> EvaluationResult:
    """Evaluates the newest checkpoint of a run as :func:`evaluate_agent` does if asked for no more.

    The numbers are kept in the run's folder; nothing is printed.

    Raises:
        UserError: If there is nothing that can be evaluated.
    """
    options = EvaluationOptions(run=run)
    trained = load_trained(run, options.device)
    plan = make_plan(options, trained.config, trained.task_names)
    policy = policy_on(trained, plan.tasks, sampled=False, seed=plan.action_seed)
    with _folder(None, trained) as out:
        return _evaluate(plan, trained, policy, out, console)


def _find_backend(options: EvaluationOptions, suite: Suite) -> str | None:
    """The OpenGL to make videos with; None where there will be none."""
    if not options.wants_video:
        return None
    try:
        return require_video(suite)
    except RenderingError as error:
        _no_video(options, error)
        return None


def _no_video(options: EvaluationOptions, error: RenderingError) -> None:
    """Goes on without a video, with a line that says why, unless that is not wanted."""
    if options.video_strict:
        raise error
    show_line(f"no video: {' '.join(str(error).split())}")


@contextmanager
def _folder(asked: Path | None, trained: Trained) -> Iterator[Path]:
    """The folder of the results, which no other evaluation has or gets meanwhile."""
    if asked is None:
        name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        with new_folder(trained.home / EVALUATIONS / name, "--out") as out:
            yield out
        return
    taken = UserError(f"{asked} already holds an evaluation; choose another --out")
    if any((asked / name).exists() for name in (RESULT_JSON, RESULT_CSV)):
        raise taken  # a run's own evaluation.csv, too, is not overwritten
    claim = asked / EPISODES_CSV
    try:
        asked.mkdir(parents=True, exist_ok=True)
        claim.open("x").close()
    except OSError as error:
        if asked.is_dir() and isinstance(error, FileExistsError):
            raise taken from None
        reason = f"{error.strerror}; choose --out"
        raise UserError(f"cannot make the folder {asked}: {reason}") from error
    try:
        yield asked
    finally:
        if claim.stat().st_size == 0:
            claim.unlink()


def _announcement(plan: Plan, trained: Trained) -> str:
    config, steps = trained.config, trained.metadata["counters"]["vector_steps"]
    goals = f"{plan.protocol['evaluation_goals']} (seed {plan.goal_seed})"
    if config.env.goal_mode == "fixed" and plan.env.goal_mode != "fixed":
        goals += "; training had one per task, which --goals training runs"
    return (
        f"agent     {config.method}, seed {config.seed}, after {steps:,} steps\n"
        f"policy    {plan.protocol['policy']}\n"
        f"goals     {goals}\n"
    )


def _bar(console: Console) -> Progress:
    """A bar on a terminal, and nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(style=EMPTY), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _run(plan: Plan, policy: PolicyFunction, console: Console) -> Episodes:
    evaluation = EvaluationConfig(evaluation_episodes=plan.episodes)
    envs = make_evaluation_envs(plan.env, evaluation, seed=plan.goal_seed)
    with closing(envs), _bar(console) as bar:
        task = bar.add_task("episodes", total=plan.episodes * len(plan.tasks))
        return run_episodes(
            policy,
            envs,
            episodes=plan.episodes,
            seed=plan.goal_seed,
            report=lambda ended: bar.advance(task, ended),
        )


def _evaluate(
    plan: Plan, trained: Trained, policy: PolicyFunction, out: Path, console: Console
) -> EvaluationResult:
    """Runs the episodes and keeps the numbers."""
    episodes = _run(plan, policy, console)
    save_results(out, plan, trained, episodes)
    return EvaluationResult(
        task_names=plan.tasks,
        success_rates=episodes.successes.mean(1),
        mean_returns=episodes.returns.mean(1),
        episodes=plan.episodes,
    )


def _record(
    options: EvaluationOptions,
    plan: Plan,
    policy: PolicyFunction,
    backend: str,
    out: Path,
    console: Console,
) -> None:
    scene = Scene(plan.env.task_suite, plan.tasks, evaluation_rules(plan.env), plan.goal_seed)
    folder = out / VIDEOS
    mosaic = folder / "mosaic.mp4"
    try:
        with _bar(console) as bar:
            task = bar.add_task("videos", total=len(plan.tasks))
            film(
                policy,
                scene,
                options.videos,
                mosaic,
                backend=backend,
                task_folder=folder,
                report=lambda: bar.advance(task),
            )
        if options.gif:
            write_gif(mosaic, mosaic.with_suffix(".gif"))
    except RenderingError as error:
        _no_video(options, error)
        return
    console.print(Text(f"videos    {folder}"), soft_wrap=True)
