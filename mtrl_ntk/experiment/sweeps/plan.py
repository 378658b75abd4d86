"""What a sweep is going to do, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import yaml

from mtrl_ntk.experiment.config import to_dict
from mtrl_ntk.experiment.logs.progress import format_duration
from mtrl_ntk.experiment.logs.streams import print_lines
from mtrl_ntk.experiment.options.fields import updated
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.sweeps.runs import FolderState, JobsPlan, SweepRun
from mtrl_ntk.experiment.training.costs import rehearse
from mtrl_ntk.experiment.training.disk_space import size_text


def sharing(runs: Sequence[SweepRun], plan: JobsPlan, states: Mapping[str, FolderState]) -> str:
    """How many runs there are, and how they share the machine or the cluster."""
    shares = [plan.share(run.config).settings(run.config) for run in runs]
    needed = max(sum(share.values()) for share in shares) * plan.jobs
    in_words = [
        " and ".join(counted(number, name.removesuffix("s")) for name, number in share.items())
        for share in shares
    ]
    each = " or ".join(dict.fromkeys(in_words))
    found = ", ".join(
        f"{number} {state}" for state, number in sorted(Counter(states.values()).items())
    )
    all_of_them = f"{counted(len(runs), 'run')} ({found})"
    text = f"{all_of_them}, {plan.jobs} at once on {_place(plan)}, each with {each}"
    if needed > plan.cores:
        text += f"\nthat is more than the {plan.cores} cores: the runs will slow each other down"
    return text


def _place(plan: JobsPlan) -> str:
    if plan.backend != "local":
        return f"{plan.backend} as it has room, {counted(plan.cores // plan.jobs, 'core')} for each"
    cores = counted(plan.cores, "core")
    return f"{counted(len(plan.gpus), 'GPU')} and {cores}" if plan.gpus else cores


def show_plan(runs: Sequence[SweepRun], plan: JobsPlan, states: Mapping[str, FolderState]) -> None:
    """Prints the runs, their folders, settings and shares of the machine."""
    print_lines(_description(runs, plan, states))


def _description(
    runs: Sequence[SweepRun], plan: JobsPlan, states: Mapping[str, FolderState]
) -> Iterator[str]:
    yield sharing(runs, plan, states)
    yield _estimate(runs, plan, states)
    width = max(len(run.name) for run in runs)
    for run in runs:
        yield f"  {states[run.name]:<11}  {run.name:<{width}}  {run.folder}"
    common, own = _settings(runs, plan)
    yield f"\nsettings of all runs:\n{_as_yaml(common)}"
    for name, values in own.items():
        yield f"also of {name}:\n{_as_yaml(values)}"


def _estimate(runs: Sequence[SweepRun], plan: JobsPlan, states: Mapping[str, FolderState]) -> str:
    """How long the sweep takes here, judged by the first run that is left."""
    left = [run for run in runs if states[run.name] != "finished"]
    if not left or plan.backend != "local":
        return "nothing is left to do" if not left else "how long it takes, the cluster decides"
    first = updated(left[0].config, plan.share(left[0].config).settings(left[0].config))
    costs = (left[0].kind.costs or rehearse)(first, left[0].step)
    rounds = -(-len(left) // plan.jobs)
    return (
        f"{first.at_most}about {format_duration(rounds * costs.total_s)}, "
        f"{size_text(plan.jobs * costs.memory)} of memory and "
        f"{size_text(len(runs) * costs.disk)} of disk, if all runs are like "
        f"{left[0].name} and do not slow each other down: {format_duration(costs.total_s)}, "
        f"{format_duration(costs.start_s)} of it to start, and {size_text(costs.memory)} for each"
    )


Values = dict[str, object]


def _settings(runs: Sequence[SweepRun], plan: JobsPlan) -> tuple[Values, dict[str, Values]]:
    """What all runs have in common, and what else those of the first seed have, by name."""
    hidden = ("method", "seed", "run_dir", "resume")
    of_runs = {run.name: _resolved(run, plan) for run in runs}
    first, *others = of_runs.values()
    common = {
        name: value
        for name, value in first.items()
        if name not in hidden and all(name in o and o[name] == value for o in others)
    }
    own = {
        run.name: {
            name: value
            for name, value in of_runs[run.name].items()
            if name not in hidden and name not in common
        }
        for run in runs
        if run.config.seed == runs[0].config.seed
    }
    return common, {name: values for name, values in own.items() if values}


def _resolved(run: SweepRun, plan: JobsPlan) -> Values:
    return {**to_dict(run.config), **plan.share(run.config).settings(run.config)}


def _as_yaml(settings: Values) -> str:
    return "\n".join(f"  {line}" for line in yaml.safe_dump(settings, sort_keys=False).splitlines())
