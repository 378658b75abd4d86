"""The commands: parsing and wiring only.

What a command runs is imported by the command, so that help and errors need not wait for it.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

from mtrl_ntk.errors import ConfigError, Interrupted, RunFailed, UserError
from mtrl_ntk.experiment.evaluation.options import EvaluationOptions
from mtrl_ntk.experiment.files.outages import OutageWarning
from mtrl_ntk.experiment.logs.streams import open_streams, print_lines, show_line
from mtrl_ntk.experiment.options.fields import options, updated
from mtrl_ntk.experiment.options.parser import (
    LISTS,
    PRINT_COMPLETION,
    SUPERVISED_LISTS,
    VERSION,
    Parser,
)
from mtrl_ntk.experiment.options.values import convert
from mtrl_ntk.experiment.reports.options import ReportOptions
from mtrl_ntk.experiment.sweeps.options import read_sweep
from mtrl_ntk.experiment.videos.opengl import drop_broken_backend
from mtrl_ntk.version import __version__


def train_mt10() -> None:
    """Trains an agent; ``train_mt10 --help`` shows the options."""
    _run("train_mt10", _train)


def evaluate_mt10() -> None:
    """Evaluates the agent of a run; ``evaluate_mt10 --help`` shows the options."""
    _run("evaluate_mt10", _evaluate)


def sweep_mt10() -> None:
    """Trains methods times seeds; ``sweep_mt10 --help`` shows the options."""
    _run("sweep_mt10", _sweep)


def report_mt10() -> None:
    """Draws what runs have written; ``report_mt10 --help`` shows the options."""
    _run("report_mt10", _report)


def train_supervised() -> None:
    """Trains a network on a data set; ``train_supervised --help`` shows the options."""
    _run("train_supervised", _train_supervised)


def sweep_supervised() -> None:
    """Trains methods times seeds; ``sweep_supervised --help`` shows the options."""
    _run("sweep_supervised", _sweep)


def _train(argv: list[str], prog: str) -> None:
    drop_broken_backend()
    from mtrl_ntk.experiment.training.command import DRY_RUN, load

    config = load(argv, prog)
    if DRY_RUN in argv:
        from mtrl_ntk.experiment.training.dry_run import show_what_a_run_would_be

        show_what_a_run_would_be(config)
        return
    from mtrl_ntk.experiment.training.run import train

    train(config)


def _train_supervised(argv: list[str], prog: str) -> None:
    drop_broken_backend()
    from mtrl_ntk.experiment.training.command import DRY_RUN
    from mtrl_ntk.supervised.command import load

    config = load(argv, prog)
    if DRY_RUN in argv:
        from mtrl_ntk.supervised.training.dry_run import show_what_a_run_would_be

        show_what_a_run_would_be(config)
        return
    from mtrl_ntk.supervised.training.run import train

    train(config)


def _evaluate(argv: list[str], prog: str) -> None:
    parser = Parser(
        prog,
        description=_EVALUATE_DESCRIPTION,
        epilog=_EVALUATE_EPILOG.format(prog=prog),
        usage="%(prog)s DIR [--checkpoint best] [options]\n"
        "       %(prog)s --pretrained NAME [options]",
    )
    parser.add_argument(
        "folder", nargs="?", metavar="DIR", help="folder of a run, or of one of its checkpoints"
    )
    parser.add_options(options(EvaluationOptions(), section="Evaluation"))
    given = parser.parse(argv, elsewhere={})
    if (folder := getattr(parser.parse_known_args(argv)[0], "folder", None)) is not None:
        if "run" in given:
            raise ConfigError("give DIR or --run DIR, which are the same, once")
        given["run"] = convert(Path, folder, "DIR")
    chosen = updated(EvaluationOptions(), given)
    chosen.check_together()
    drop_broken_backend()
    from mtrl_ntk.experiment.evaluation.evaluate import evaluate_agent

    evaluate_agent(chosen)


_EVALUATE_DESCRIPTION = """\
Measures the success rate per task of a trained agent, prints it, and writes it, with what the
numbers mean, to evaluation.json, evaluation.csv and episodes.csv.

By default the agent runs 50 goals of each task, once each, that training never met. --goals
training runs those of training instead, as the run itself did for its evaluation.csv."""

_EVALUATE_EPILOG = """\
examples:
  {prog} runs/mt10_quick/ntkmtl-seed3-20260101-120000
  {prog} DIR --checkpoint best                   # by mean success in training; or step-000009000
  {prog} DIR --video --episodes 10               # also videos, in DIR/evaluations/TIME/videos
  {prog} DIR --tasks reach-v3,push-v3            # some of its tasks
  {prog} DIR --goals training                    # on the goals of training
  {prog} DIR --sampled --out results
  {prog} --pretrained mt10 --video               # an agent that comes with the package

Videos need an OpenGL, on Debian that of the packages libegl1 and libgl1. Where there is none, the
agent is evaluated without them; --video-strict makes that an error. The environment variable
MUJOCO_GL (egl, osmesa or glfw) chooses among several."""


def _sweep(argv: list[str], prog: str) -> None:
    sweep = read_sweep(argv, prog)
    if os.name != "posix":
        train = prog.replace("sweep", "train")
        raise UserError(f"sweeps need Linux or macOS; {train} trains one run anywhere")
    from mtrl_ntk.experiment.sweeps.sweep import run_sweep

    again = shlex.join([prog, *argv])
    if prog == "sweep_supervised":
        from mtrl_ntk.supervised.sweep import SUPERVISED_SWEPT, TRAIN

        failed = run_sweep(sweep, again, TRAIN, SUPERVISED_SWEPT)
    else:
        failed = run_sweep(sweep, again)
    if failed:
        sys.exit(1)


def _report(argv: list[str], prog: str) -> None:
    parser = Parser(
        prog,
        description=_REPORT_DESCRIPTION,
        epilog=_REPORT_EPILOG.format(prog=prog),
        usage="%(prog)s DIR... [options]\n       %(prog)s --kernels RUN... [options]",
    )
    parser.add_argument("folders", nargs="*", metavar="DIR", help="folders of runs, at any depth")
    parser.add_options(options(ReportOptions()))
    chosen = updated(ReportOptions(), parser.parse(argv, elsewhere={}))
    names = getattr(parser.parse_known_args(argv)[0], "folders", ())
    if not all(names):
        raise ConfigError("a DIR is empty; give folders of runs, such as runs")
    folders = [path for name in names if isinstance(path := convert(Path, name, "DIR"), Path)]
    if bool(folders) == bool(chosen.kernels):
        raise ConfigError(
            "give either folders of runs, for a report on them, or --kernels RUN [RUN...], for "
            "pictures of their tangent kernels"
        )
    if folders:
        drop_broken_backend()
        from mtrl_ntk.supervised.reports.report import are_supervised, report_supervised

        if are_supervised(folders):
            report_supervised(folders, chosen)
            return
        from mtrl_ntk.experiment.reports.report import report_runs

        report_runs(folders, chosen)
    else:
        from mtrl_ntk.experiment.kernels.report import report_kernels

        report_kernels(chosen.kernels, output=chosen.out, least_affinity=chosen.least_affinity)


_REPORT_DESCRIPTION = """\
Puts runs together by method and writes a report on them: index.html, which needs no other file,
report.md, table.tex, CSV files with every number, and PNG and SVG pictures.

Only complete runs count. Runs of different protocols are refused, as their numbers mean different
things."""

_REPORT_EPILOG = """\
examples:
  {prog} runs/mt3_quick                          # all runs in it, at any depth, into report
  {prog} runs/a runs/b --out results --last 10
  {prog} sweeps/mt10 --methods ntkmtl,equal --anchors table4
  {prog} sweeps/mt10 --evaluate                   # also on goals that training never met
  {prog} runs --resample runs                    # intervals that keep the tasks of a run together
  {prog} sweeps/digits                            # of supervised runs: metrics, Δm, mean rank
  {prog} --kernels runs/equal runs/ntkmtl --out plots"""


@open_streams()
def _run(prog: str, command: Callable[[list[str], str], None]) -> None:
    """Runs a command; a mistake of the user ends it with one line and exit code 2.

    What fails without being one ends it with one line and exit code 1.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        # Read when torch is imported. Idle threads else spin, and stall all else on their cores.
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", OutageWarning)
            warnings.showwarning = partial(_show_warning, prog)
            if not _is_answered(sys.argv[1:], prog):
                command(sys.argv[1:], prog)
    except Interrupted as stop:
        show_line(f"{prog}: {stop}")
        sys.exit(stop.exit_code)
    except UserError as error:
        show_line(f"{prog}: error: {_one_line(error)}")
        sys.exit(2)
    except RunFailed as error:
        show_line(f"{prog}: error: {_one_line(error)}")
        sys.exit(1)
    except KeyboardInterrupt:
        show_line(f"{prog}: interrupted")
        sys.exit(130)
    finally:
        _let_go_of(sys.stdout)
        _let_go_of(sys.stderr)


def _let_go_of(stream: TextIO) -> None:
    """Drops what cannot be written any more; the exit code would else be that of the attempt."""
    try:
        stream.flush()
    except OSError:
        if hasattr(stream, "fileno"):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_answered(argv: list[str], prog: str) -> bool:
    """Answers a command line that only asks what there is; whether it was one."""
    flags = [word.split("=")[0] for word in argv]
    is_supervised = prog.endswith("_supervised")
    lists = SUPERVISED_LISTS if is_supervised else LISTS
    if VERSION in flags:
        print_lines([f"mtrl_ntk {__version__}"])
    elif asked := next((flag for flag in flags if flag in lists), None):
        print_lines(_listed(asked, argv, is_supervised=is_supervised))
    elif PRINT_COMPLETION in flags:
        print_lines(_completed(prog, argv, is_supervised=is_supervised))
    else:
        return False
    return True


def _listed(asked: str, argv: list[str], *, is_supervised: bool) -> list[str]:
    if is_supervised:
        from mtrl_ntk.supervised import answers

        return answers.listing(asked, argv)
    from mtrl_ntk.experiment.listings import listing

    return listing(asked, argv)


def _completed(prog: str, argv: list[str], *, is_supervised: bool) -> list[str]:
    from mtrl_ntk.experiment.completion import completion, completion_asked_for

    shell = completion_asked_for(argv)
    if shell is None:
        return []
    if is_supervised:
        from mtrl_ntk.supervised import answers

        return [answers.completion(prog, shell)]
    return [completion(prog, shell)]


def _show_warning(prog: str, message: Warning | str, *_: object) -> None:
    """Shows a warning as one line, without the place in the code that it comes from."""
    show_line(f"{prog}: warning: {_one_line(message)}")


def _one_line(message: object) -> str:
    """The message without line breaks, and cut where a hostile file has made it endless."""
    text = " ".join(str(message).split())
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}..."


_LONGEST_LINE = 2000
"""Characters; a list of all tasks has fewer."""
