"""What a run would be and would take, shown without writing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import yaml

from mtrl_ntk.experiment.checkpoints.resume import find_start, require_replay
from mtrl_ntk.experiment.checkpoints.run_state import counters_of
from mtrl_ntk.experiment.config import RunConfig, defaults, to_dict
from mtrl_ntk.experiment.evaluation.episodes import protocol
from mtrl_ntk.experiment.families import Configuration
from mtrl_ntk.experiment.logs.progress import format_duration
from mtrl_ntk.experiment.logs.streams import print_lines
from mtrl_ntk.experiment.training.costs import Costs, rehearse
from mtrl_ntk.experiment.training.disk_space import free_space, size_text
from mtrl_ntk.experiment.training.whole import folder_of
from mtrl_ntk.experiment.types import Counters


def show_what_a_run_would_be(config: RunConfig) -> None:
    """Prints settings, folder, protocol and costs; all of it is a file for ``--config``.

    Raises:
        UserError: If the run could not start so.
    """
    start = find_start(config)
    require_replay(start)
    run_dir = folder_of(config)
    done = counters_of(start.found, Counters).vector_steps if start and start.found else 0
    print_lines(_description(config, run_dir, done))


def _description(config: RunConfig, run_dir: Path, done: int) -> Iterator[str]:
    stated = protocol(config.env, config.evaluation)
    yield from description(config, defaults(config.method), stated, run_dir, done)
    for line in estimate(rehearse(config, done), run_dir, config.evaluation.at_most):
        yield f"# {line}"


def description(
    config: Configuration,
    usual: Configuration,
    stated: Mapping[str, object],
    run_dir: Path,
    done: int,
) -> Iterator[str]:
    """What a run of any kind would be, in lines of a file for ``--config``.

    Args:
        config: Its configuration.
        usual: The defaults of its method.
        stated: Its protocol.
        run_dir: Where it would write.
        done: Steps that it has taken already.
    """
    yield from _settings(to_dict(config), to_dict(usual))
    yield f"# run folder: {run_dir}" + (f", going on after {done} steps" if done else "")
    yield "# protocol:"
    for line in _lines(stated):
        yield f"#   {line}"


def _settings(chosen: Mapping[str, object], usual: Mapping[str, object]) -> Iterator[str]:
    hidden = ("run_dir", "resume")
    differs = {
        name: value
        for name, value in chosen.items()
        if name not in hidden and (value != usual[name] or name in ("method", "seed"))
    }
    yield "# chosen"
    for line, (name, value) in zip(_lines(differs), differs.items(), strict=True):
        yield f"{line}  # default: {_text(usual[name])}" if value != usual[name] else line
    yield "\n# defaults"
    yield from _lines({k: v for k, v in chosen.items() if k not in (*differs, *hidden)})
    yield ""


def _lines(values: Mapping[str, object]) -> list[str]:
    return [f"{name}: {_text(value)}" for name, value in values.items()]


def _text(value: object) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1_000).removesuffix("\n...\n").strip()
    )


def estimate(costs: Costs, run_dir: Path, at_most: str = "") -> Iterator[str]:
    """Time, memory and disk of a run that writes to a folder, in lines."""
    threads, processes = costs.threads, costs.num_workers
    yield (
        f"estimate, from steps that were taken just now with {threads} "
        f"thread{'s' * (threads > 1)} and {processes} worker processes:"
    )
    yield (
        f"  time: {at_most}about {format_duration(costs.total_s)}, at "
        f"{costs.random_step_s * 1e3:.1f} ms a step of the warm start and "
        f"{costs.step_s * 1e3:.1f} ms a step with updates; "
        f"{format_duration(costs.start_s)} of it for the start, and "
        f"{format_duration(costs.evaluations_s)} for evaluations, in episodes of full length"
    )
    where = " on the GPU" if costs.on_gpu else ""
    parts = {
        f"replay{where}": costs.replay,
        f"networks, optimisers and gradients of each task{where}": costs.learner,
        "libraries and the rest": costs.program,
        "worker processes": costs.workers,
    }
    each = "; ".join(f"{name} {size_text(size)}" for name, size in parts.items())
    free = size_text(psutil.virtual_memory().available)
    yield f"  memory: about {size_text(costs.memory)}, and {free} are free: {each}"
    yield (
        f"  disk: at most about {size_text(costs.disk)}, and {size_text(free_space(run_dir))} are "
        "free: checkpoints, replay and logs; videos come on top"
    )
