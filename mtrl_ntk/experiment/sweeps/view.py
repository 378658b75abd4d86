"""What a person sees of a sweep: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mtrl_ntk.experiment.files.layout import EVALUATION_CSV
from mtrl_ntk.experiment.logs.progress import MISSING, format_duration, share_bar, standard_output
from mtrl_ntk.experiment.options.values import counted
from mtrl_ntk.experiment.sweeps.backends.job import Job, State
from mtrl_ntk.experiment.sweeps.runs import SweepRun, last_logged_step

_STYLES: dict[State, str] = {
    "running": "cyan",
    "failed": "bold red",
    "stopped": "yellow",
    "waiting": "dim",
    "finished": "green",
}
"""Colours of the states, in the order in which a table too long for the screen shows them."""

_LINE_EVERY_S = 60.0


@dataclass
class SweepRow:
    """A run and how far it is."""

    run: SweepRun
    job: Job
    step: int = 0
    """How far it is, in the unit of lengths."""
    score: float = math.nan
    """How good the last evaluation was."""
    _first: tuple[float, int] | None = None
    _evaluated: int = field(default=-1, repr=False)

    @property
    def total(self) -> int:
        """Length of the whole run, which may have reached its end earlier."""
        most = self.run.config.length
        return self.step or most if self.job.state == "finished" else most

    @property
    def at_most(self) -> str:
        """What stands before its length, which may be less."""
        return str(self.run.config.at_most)

    def refresh(self, now: float) -> None:
        """Reads what the run has written since."""
        step = last_logged_step(self.run.folder, self.run.kind.column)
        size = _size(self.run.folder / EVALUATION_CSV)
        if size != self._evaluated:
            self._evaluated = size
            if scores := self.run.kind.scores(self.run.folder):
                step, self.score = max(step, *scores), [*scores.values()][-1]
        self.step = min(max(step, self.step), self.total)
        if self.job.state == "running" and self.step and self._first is None:
            self._first = now, self.step

    def remaining(self, now: float) -> float:
        """Seconds left at the speed since its first row; NaN if that is not known."""
        if self._first is None or self.job.state != "running" or self.step <= self._first[1]:
            return math.nan
        pace = (now - self._first[0]) / (self.step - self._first[1])
        return (self.total - self.step) * pace

    def left(self, now: float) -> str:
        """The time left, for people."""
        seconds = self.remaining(now)
        return MISSING if math.isnan(seconds) else self.at_most + format_duration(seconds)


class SweepView:
    """Shows the runs of a sweep; a context manager.

    Args:
        rows: The runs.
        console: Where to print; by default the standard output.
        clock: Seconds since any fixed moment.
    """

    def __init__(
        self,
        rows: Sequence[SweepRow],
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = rows
        self._console = console or standard_output()
        self._clock = clock
        self._last_line = clock()
        self._live = Live(
            console=self._console,
            get_renderable=self._view,
            auto_refresh=False,
            transient=True,
            vertical_overflow="ellipsis",
        )

    def __enter__(self) -> SweepView:
        """Starts the display."""
        if self._in_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the display."""
        self.close()

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._live.stop()

    def refresh(self) -> None:
        """Reads how far the runs are, and shows it."""
        now = self._clock()
        for row in self._rows:
            if row.job.state == "running" or row.step == 0:
                row.refresh(now)
        if self._in_terminal:
            self._live.refresh()
        elif now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            self.say(self._summary())
            for row in self._in_order():
                if row.job.state == "running":
                    self.say(f"  {row.job.name}: {self._line(row)}")

    def say(self, text: str) -> None:
        """Prints a line above the display."""
        self._console.print(Text(text), soft_wrap=True)

    def show_results(self) -> None:
        """Ends the display and prints what has become of every run."""
        self.close()
        self.say("")
        self._console.print(self._table(self._rows), highlight=False)

    @property
    def _in_terminal(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _view(self) -> RenderableType:
        return Group(Text(self._summary(), style="bold"), self._table(self._in_order()))

    def _in_order(self) -> list[SweepRow]:
        places = list(_STYLES)
        return sorted(self._rows, key=lambda row: places.index(row.job.state))

    def _summary(self) -> str:
        states = [row.job.state for row in self._rows]
        counts = [f"{states.count(state)} {state}" for state in _STYLES if state in states]
        share = sum(row.step / row.total for row in self._rows) / len(self._rows)
        return (
            f"{counted(len(states), 'run')}: {', '.join(counts)}; {share:.0%} of all {self._unit}"
        )

    def _line(self, row: SweepRow) -> str:
        kind, done = row.run.kind, f"{row.step:,} of {row.at_most}{row.total:,}"
        return f"{done} {kind.unit}, {kind.score} {kind.text(row.score)}"

    @property
    def _unit(self) -> str:
        return self._rows[0].run.kind.unit

    def _table(self, rows: Sequence[SweepRow]) -> Table:
        now = self._clock()
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("run", overflow="fold")
        for name in ("state", self._unit):
            table.add_column(name, no_wrap=True)
        for name in ("", self._rows[0].run.kind.score, "time", "left"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            share, state = row.step / row.total, row.job.state
            table.add_row(
                Text(row.job.name),
                Text(state, style=_STYLES[state]),
                share_bar(share, width=16, color="cyan"),
                f"{share:.0%}",
                row.run.kind.text(row.score),
                format_duration(row.job.seconds) if row.job.seconds else MISSING,
                row.left(now),
            )
        return table


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
