"""The commands: parsing and wiring only.

What a command runs is imported by the command, so that help and errors need not wait for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mtrl_ntk.errors import ConfigError, UserError
from mtrl_ntk.experiment.command_line import Parser
from mtrl_ntk.experiment.options import Device, options, updated
from mtrl_ntk.experiment.ranges import check_ranges


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate, and how."""

    run: Path | None = None
    """Folder of the run to evaluate."""
    evaluation_episodes: int | None = field(
        default=None, metadata={"flags": ("--evaluation-episodes", "--episodes")}
    )
    """Episodes per task; by default as many as during the run."""
    seed: int | None = None
    """Seed of goals and initial states; by default the run's."""
    device: Device = "auto"
    """Where the policy runs; auto takes CUDA when there is any."""
    workers: int = -1
    """Processes that step the environments; 0 steps them in this one, -1 chooses by cores."""

    def __post_init__(self) -> None:
        check_ranges(self)


def train_mt10() -> None:
    """Trains an agent; ``train_mt10 --help`` shows the options."""
    _run("train_mt10", _train)


def evaluate_mt10() -> None:
    """Evaluates the agent of a run; ``evaluate_mt10 --help`` shows the options."""
    _run("evaluate_mt10", _evaluate)


def _train(argv: list[str], prog: str) -> None:
    from mtrl_ntk.experiment.config import load

    config = load(argv, prog)
    from mtrl_ntk.experiment.training import train

    train(config)


def _evaluate(argv: list[str], prog: str) -> None:
    parser = Parser(
        prog,
        description="Measures the success rate per task of the agent that a run has trained.",
        epilog=f"example:\n  {prog} --run runs/mt10/ntkmtl-seed1-20260101-120000 --seed 1000",
    )
    parser.add_options(options(EvaluateOptions()))
    chosen = updated(EvaluateOptions(), parser.parse(argv, elsewhere={}))
    if chosen.run is None:
        raise ConfigError("--run is missing; it must be the folder of a run")
    from mtrl_ntk.experiment.evaluation import evaluate_run

    evaluate_run(
        chosen.run,
        episodes=chosen.evaluation_episodes,
        seed=chosen.seed,
        device=chosen.device,
        workers=chosen.workers,
    )


def _run(prog: str, command: Callable[[list[str], str], None]) -> None:
    """Runs a command; a mistake of the user ends it with one line and exit code 2."""
    try:
        command(sys.argv[1:], prog)
    except UserError as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        sys.exit(130)
