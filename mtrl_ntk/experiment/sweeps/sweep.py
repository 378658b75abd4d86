"""Methods times seeds times settings: many runs, several at a time."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mtrl_ntk.errors import Interrupted
from mtrl_ntk.experiment.families import Configuration
from mtrl_ntk.experiment.logs.progress import format_duration
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.sweeps.backends.job import Backend, Ending, Job, open_log
from mtrl_ntk.experiment.sweeps.backends.registry import make_backend
from mtrl_ntk.experiment.sweeps.options import Sweep, SweepOptions
from mtrl_ntk.experiment.sweeps.plan import sharing, show_plan
from mtrl_ntk.experiment.sweeps.pool import Pool
from mtrl_ntk.experiment.sweeps.runs import (
    REINFORCED,
    FolderState,
    JobsPlan,
    SweepRun,
    Swept,
    folder_state,
    plan_cluster,
    plan_jobs,
    plan_runs,
    usable_gpus,
)
from mtrl_ntk.experiment.sweeps.view import SweepRow, SweepView
from mtrl_ntk.experiment.training.signals import StopRequest
from mtrl_ntk.rl.envs import usable_cores

TRAIN = (sys.executable, "-c", "from mtrl_ntk.cli import train_mt10; train_mt10()")
"""Starts train_mt10 with the Python that runs the sweep, whatever is on the PATH."""

LOGS = "logs"
"""Folder of the runs' outputs within the folder of a sweep."""

_POLL_S = 0.5


def run_sweep(
    sweep: Sweep, again: str, train: Sequence[str] = TRAIN, kind: Swept = REINFORCED
) -> list[str]:
    """Trains all runs that are not finished yet; one that fails does not stop the others.

    Args:
        sweep: What to train.
        again: The command that goes on with the sweep, for messages.
        train: Program that trains, and its first arguments.
        kind: What is trained.

    Returns:
        Names of the runs that have failed.

    Raises:
        UserError: If a run cannot be trained as configured; then none was started.
        Interrupted: If a signal has stopped the sweep.
    """
    runs = plan_runs(sweep, kind)
    configs = [run.config for run in runs]
    plan = _plan(configs, sweep.options)
    states = {run.name: folder_state(run) for run in runs}
    if sweep.options.dry_run:
        show_plan(runs, plan, states)
        return []
    rows = [SweepRow(run, _job(run, plan, states[run.name], train)) for run in runs]
    logs = runs[0].folder.parent / LOGS
    backend = (
        make_backend(sweep.options, plan, logs) if {*states.values()} != {"finished"} else None
    )
    for row in rows:
        if states[row.run.name] == "finished":
            row.job.state = "finished"
        else:
            open_log(row.job.log).close()  # whether all can be written is known before any starts
    with SweepView(rows) as view:
        view.say(sharing(runs, plan, states))
        view.say(f"runs and logs in {runs[0].folder.parent}")
        if backend is not None:
            _train(rows, plan, backend, view, again)
        view.refresh()
        view.show_results()
    return _report_failures([row for row in rows if row.job.state == "failed"], view, again)


def _plan(configs: Sequence[Configuration], options: SweepOptions) -> JobsPlan:
    if options.backend == "local":
        return plan_jobs(configs, options.jobs, usable_cores(), usable_gpus(configs))
    return plan_cluster(configs, options)


def _job(run: SweepRun, plan: JobsPlan, found: FolderState, train: Sequence[str]) -> Job:
    share = plan.share(run.config).settings(run.config)
    command = [*train, *run.arguments, *(f"--{name}={value}" for name, value in share.items())]
    # Slurm may start a run again by itself; one that has no checkpoint yet starts afresh.
    if found == "interrupted" or plan.backend == "slurm":
        command.append("--resume")
    return Job(run.name, command, run.folder.parent / LOGS / f"{run.name}.log")


def _train(
    rows: Sequence[SweepRow], plan: JobsPlan, backend: Backend, view: SweepView, again: str
) -> None:
    by_job = {row.job: row for row in rows}
    todo = [row.job for row in rows if row.job.state == "waiting"]
    with Pool(todo, plan.slots, backend) as pool:

        def end_at_once() -> None:
            pool.kill()
            view.close()

        with StopRequest(end_at_once) as stop:
            while pool.busy and stop.received is None:
                ended, started = pool.advance()
                for job in ended:
                    _say_how_it_ended(by_job[job], view)
                for job in started:
                    view.say(f"{job.name}: started; its output: {job.log}")
                view.refresh()
                if pool.busy:
                    time.sleep(_POLL_S)
            if stop.received is not None:
                view.say("stopping: runs save their state; the same signal again ends them at once")
                pool.stop()
                view.refresh()
                raise Interrupted(f"{_stopped(rows)}; to go on: {again}", stop.received)


def _say_how_it_ended(row: SweepRow, view: SweepView) -> None:
    job = row.job
    _ask_folder(row)
    if job.state == "failed":
        view.say(f"{job.name}: {_cause(job)}")
    else:
        row.refresh(time.monotonic())
        took = format_duration(job.seconds)
        kind = row.run.kind
        view.say(f"{job.name}: finished in {took}, {kind.score} {kind.text(row.score)}")


def _ask_folder(row: SweepRow) -> None:
    """Lets the folder decide: another command may have finished the run before its turn came."""
    job, is_finished = row.job, folder_state(row.run) == "finished"
    if job.state == "finished" and not is_finished:
        job.end(Ending(1, "ended without its last step"))
    if job.state == "failed" and is_finished:
        job.end(Ending(0))


def _cause(job: Job) -> str:
    """Why a job has failed."""
    code, reason = job.ending or Ending(0)
    if reason:
        return reason
    if code >= 0:
        return f"failed with exit code {code}: {_last_line(job.log)}"
    number = signal.Signals(-code)
    hint = ", as happens when memory runs out" if number is signal.SIGKILL else ""
    return f"was ended by {number.name}{hint}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _stopped(rows: Sequence[SweepRow]) -> str:
    counts = Counter(row.job.state for row in rows)
    return f"stopped with {counts['finished']} of {counted(len(rows), 'run')} finished"


def _report_failures(failed: Sequence[SweepRow], view: SweepView, again: str) -> list[str]:
    if failed:
        view.say(f"\n{counted(len(failed), 'run')} failed:")
        for row in failed:
            view.say(f"  {row.job.name}: {_cause(row.job)}; its output: {row.job.log}")
        view.say(f"to try them again: {again}")
    return [row.job.name for row in failed]
