"""What a person sees in the terminal while a run goes on, and at its end."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TextIO, cast

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtrl_ntk.experiment.files.outages import Outages
from mtrl_ntk.experiment.logs.streams import is_closed, put
from mtrl_ntk.experiment.types import Evaluation, EvaluationResult
from mtrl_ntk.rl.suites.suite import without_version

TASKS_WITH_BARS = 15
RATE_WINDOW = 20
MISSING = "-"


def format_duration(seconds: float) -> str:
    """Returns a duration for people: ``45 s``, ``12 min 03 s``, ``2 h 05 min`` or ``3 d 04 h``."""
    if not math.isfinite(seconds):
        return MISSING
    total = max(round(seconds), 0)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    minutes = round(total / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24:02d} h"


def print_result(result: EvaluationResult, console: Console | None = None) -> None:
    """Prints success and return per task and their means.

    Args:
        result: The evaluation to print.
        console: Where to print; by default the standard output.
    """
    (console or standard_output()).print(_result_table(result), highlight=False)


class Progress:
    """Shows how far a run is; a context manager.

    In a terminal it is a bar and a table of the tasks, redrawn in place; anywhere else it is a
    plain line at every update.

    Args:
        total_steps: Steps of the whole run.
        task_names: Tasks in the order of the table.
        console: Where to print; by default the standard output.
        quiet: Whether nothing is printed instead.
        at_most: What stands before lengths of a run that may end sooner.
        clock: Seconds since any fixed moment.

    Attributes:
        rated: What is counted per second, besides updates.
    """

    rated = "env"

    def __init__(
        self,
        total_steps: int,
        task_names: Sequence[str],
        console: Console | None = None,
        *,
        quiet: bool = False,
        at_most: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # No terminal: the display of one would swallow what others print.
        silence = Console(quiet=True, force_terminal=False) if quiet else None
        self._console = console or silence or standard_output()
        self._total_steps = total_steps
        self._at_most = at_most
        self._task_names = tuple(task_names)
        self._clock = clock
        self._start = clock()
        self._history: deque[tuple[float, int]] = deque(maxlen=RATE_WINDOW + 1)
        self._rate = self._update_rate = math.nan
        self._training: Mapping[str, float] = {}
        self._evaluation: Mapping[str, float] = {}
        self._returns: dict[str, float] = {}
        self._live = Live(
            console=self._console,
            get_renderable=self._view,
            refresh_per_second=2,
            transient=True,
        )

    def __enter__(self) -> Progress:
        """Starts the clock and, in a terminal, the display."""
        self._start = self._clock()
        if self._in_terminal:
            self._live.start()
        return self

    def __exit__(self, _: object, error: object, *__: object) -> None:
        """Ends the display; after a failed run its last state stays on the screen."""
        self._live.transient = error is None
        self._live.stop()

    def update(
        self,
        steps: int,
        rate: float,
        update_rate: float,
        training: Mapping[str, float] | None = None,
    ) -> None:
        """Shows the present state; to be called once per logging interval.

        Args:
            steps: Steps so far.
            rate: Environment steps per second, all environments together.
            update_rate: Gradient updates per second.
            training: Success rate of recent training episodes by task, NaN where there are none
                yet; left out, the last one stays.
        """
        self._history.append((self._clock(), steps))
        self._rate, self._update_rate = rate, update_rate
        if training is not None:
            self._training = dict(training)
        if not self._in_terminal:
            self._print(self._line())

    def go_on(
        self,
        steps: int,
        training: Mapping[str, float],
        evaluation: Evaluation | None,
    ) -> None:
        """Shows how far an interrupted run was, until there is news of it.

        Args:
            steps: Steps so far.
            training: As in :meth:`update`.
            evaluation: The last one, if there was any.
        """
        self._history.append((self._clock(), steps))
        self._training = dict(training)
        if evaluation is not None:
            self._show(evaluation)

    def evaluated(self, result: Evaluation) -> None:
        """Takes the numbers of an evaluation into the display."""
        self._show(result)
        if not self._in_terminal:
            self._print(f"evaluation: {self._summary(result)}")

    def _summary(self, result: Any) -> str:  # noqa: ANN401 - what this kind of run evaluates
        return f"mean {_score(result)}"

    def _results(self, result: Any) -> Table:  # noqa: ANN401 - as above
        return _result_table(result)

    def _show(self, result: Any) -> None:  # noqa: ANN401 - as above
        self._evaluation = _rates(result)
        self._returns = {}
        if not result.has_success:
            returns = result.mean_returns.tolist()
            self._returns = dict(zip(result.task_names, returns, strict=True))

    def message(self, text: str) -> None:
        """Prints a line above the display."""
        self._print(text)

    def estimate(self, seconds: float) -> None:
        """Says how long the run will take."""
        rounded = 60 * round(seconds / 60) if seconds >= 600 else seconds
        duration = format_duration(rounded).removesuffix(" 00 s")
        self.message(f"This run will take {self._at_most}about {duration}.")

    def final_table(
        self,
        result: Evaluation,
        *,
        run_dir: Path,
        checkpoint: Path,
        plots: Sequence[Path],
        seconds: float,
    ) -> None:
        """Ends the display and prints the last evaluation and where everything is.

        Args:
            result: The evaluation to show.
            run_dir: Folder of the run.
            checkpoint: Folder of the checkpoint.
            plots: The plots that were drawn.
            seconds: Duration of the run.
        """
        self._live.stop()
        self._console.print(self._results(result), highlight=False)
        places = {
            "time": format_duration(seconds),
            "logs": str(run_dir),
            "checkpoint": str(checkpoint),
            "plots": ", ".join(sorted({str(path.parent) for path in plots})) or "none",
            "tensorboard": f"tensorboard --logdir {shlex.quote(str(run_dir))}",
        }
        for name, place in places.items():
            self._print(f"{name:<13}{place}")

    @property
    def _in_terminal(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _print(self, text: str) -> None:
        # soft_wrap keeps a long path in one piece, to be copied; a path may hold [brackets].
        self._console.print(Text(text), soft_wrap=True)

    def _line(self) -> str:
        parts = [
            f"{_percent(self._share):>4}",
            f"{self._steps:>{len(f'{self._total_steps:,}')},} steps",
            f"ETA {self._at_most}{format_duration(self._remaining):<11}",
            f"{_count(self._rate)} {self.rated}/s",
            f"{_count(self._update_rate)} upd/s",
            self._headline(),
        ]
        return "  ".join(parts)

    def _headline(self, *, live: bool = False) -> str:
        """How good it is, in a line of the log or in the display."""
        if self._returns:
            return f"{'eval ' * live}return {_return(_mean(self._returns.values()))}"
        if not live:
            return f"success {_percent(_mean((self._training or self._evaluation).values()))}"
        source, rates = (
            ("eval", self._evaluation) if self._evaluation else ("train", self._training)
        )
        return f"{source} success {_percent(_mean(rates.values()))}"

    def _view(self) -> RenderableType:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            share_bar(self._share, width=36, color="cyan"),
            Text(f"{_percent(self._share):>4}", style="bold"),
            Text(f"{format_duration(self._elapsed):>11}"),
            Text(f"ETA {self._at_most}{format_duration(self._remaining)}", style="cyan"),
        )
        numbers = Text(
            f"{self._steps:,} of {self._at_most}{self._total_steps:,} steps  "
            f"{_count(self._rate)} {self.rated}/s  {_count(self._update_rate)} updates/s  "
        )
        numbers.append(self._headline(live=True), style="bold")
        return Group(bar, numbers, "", self._task_table())

    def _task_table(self) -> RenderableType:
        if len(self._task_names) <= TASKS_WITH_BARS:
            return self._table_of(self._task_names, bars=True)
        half = math.ceil(len(self._task_names) / 2)
        columns = Table.grid(padding=(0, 2))
        columns.add_row(
            self._table_of(self._task_names[:half], bars=False),
            self._table_of(self._task_names[half:], bars=False),
        )
        return columns

    def _table_of(self, task_names: Sequence[str], *, bars: bool) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("task", no_wrap=True)
        table.add_column("train", justify="right")
        table.add_column("eval", justify="right")
        for task in task_names:
            *row, bar = self._row(task)
            table.add_row(*map(Text, map(str, row)), bar if bars else None)
        return table

    def _row(self, task: str) -> tuple[str, str, str, ProgressBar | None]:
        """What stands beside a task: how good it is in training and evaluation, and a bar."""
        training = self._training.get(task, math.nan)
        evaluation = self._evaluation.get(task, math.nan)
        # So two columns of the longest Meta-World names fit 80 characters.
        shown = _return(self._returns[task]) if self._returns else _percent(evaluation)
        return without_version(task), _percent(training), shown, _success_bar(evaluation)

    @property
    def _steps(self) -> int:
        return self._history[-1][1] if self._history else 0

    @property
    def _share(self) -> float:
        return min(self._steps / max(self._total_steps, 1), 1.0)

    @property
    def _elapsed(self) -> float:
        return self._clock() - self._start

    @property
    def _remaining(self) -> float:
        """Time left at the recent speed: the random steps of the warm start are far faster."""
        if len(self._history) < 2:
            return math.nan
        (first_time, first_steps), (last_time, last_steps) = self._history[0], self._history[-1]
        pace = (last_time - first_time) / max(last_steps - first_steps, 1)
        since_update = self._clock() - last_time
        return max((self._total_steps - last_steps) * pace - since_update, 0.0)


def standard_output() -> Console:
    """Returns a console that animates and colours on a terminal only, and that nothing can end."""
    # FORCE_COLOR, which many CI services set, would have rich animate a log file.
    is_terminal = (
        not is_closed(sys.stdout) and hasattr(sys.stdout, "isatty") and sys.stdout.isatty()
    )
    return Console(file=cast("IO[str]", _Undaunted(sys.stdout)), force_terminal=is_terminal)


class _Undaunted:
    """A stream whose end is no end of the work: what cannot be written to it is left out.

    Its reader may have gone, as after ``| head`` or a Ctrl-C that ``| tee`` got as well, its
    terminal may be closed, its disk full. Rich would end the process, with nothing saved.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._outages = stream, Outages()

    def write(self, text: str) -> int:
        def write() -> None:
            put(self._stream, text)

        self._outages.attempt("the output", write, "the work goes on without showing it")
        return len(text)

    def flush(self) -> None:
        """Has nothing to do: every text is written at once."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _result_table(result: EvaluationResult) -> Table:
    successes, returns = result.success_rates.tolist(), result.mean_returns.tolist()
    table = Table(
        title=f"Evaluation, episodes per task: {result.episodes}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_footer=True,
        pad_edge=False,
    )
    table.add_column("task", footer="mean", no_wrap=True)
    table.add_column("success", footer=_percent(_mean(successes)), justify="right")
    table.add_column("", footer=_success_bar(_mean(successes)))
    table.add_column("return", footer=_return(_mean(returns)), justify="right")
    for task, success, mean_return in zip(result.task_names, successes, returns, strict=True):
        table.add_row(Text(task), _percent(success), _success_bar(success), _return(mean_return))
    return table


def _score(result: EvaluationResult) -> str:
    if result.has_success:
        return f"success {_percent(result.score)}"
    return f"return {_return(result.score)}"


def _rates(result: EvaluationResult) -> dict[str, float]:
    return dict(zip(result.task_names, result.success_rates.tolist(), strict=True))


def _success_bar(rate: float) -> ProgressBar:
    return share_bar(0.0 if math.isnan(rate) else rate, width=20, color="green")


def share_bar(share: float, *, width: int, color: str) -> ProgressBar:
    """A bar whose empty part is grey: rich's own is dark, and looks full on white."""
    return ProgressBar(total=1.0, completed=share, width=width, style=EMPTY, complete_style=color)


EMPTY = "grey50"
"""Style of what is not there yet, on any background."""


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _percent(share: float) -> str:
    return MISSING if math.isnan(share) else f"{share:.0%}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else MISSING


def _return(value: float) -> str:
    """As many digits as tell returns apart, which may be of any size."""
    return f"{value:.3g}" if abs(value) < 100 else _count(value)
