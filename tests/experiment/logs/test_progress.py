"""What the terminal shows, read from a captured console."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.segment import Segment

from mtrl_ntk.experiment.logs.progress import Progress, format_duration, print_result, share_bar
from mtrl_ntk.experiment.types import EvaluationResult

TASKS = ("reach-v3", "push-v3", "button-press-topdown-wall-v3")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


RESULT = EvaluationResult(
    TASKS, np.array([1.0, 0.5, 0.06]), np.array([4321.4, 0.0, -12.6]), episodes=50
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool, width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=60)


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def run(console: Console, task_names: tuple[str, ...] = TASKS, total: int = 2_000_000) -> None:
    clock = Clock()
    with Progress(total, task_names, console, clock=clock) as progress:
        for steps in range(total // 4, total + 1, total // 4):
            clock.now += 600
            progress.update(steps, 12_150.4, 1_215.2, dict.fromkeys(task_names, 0.25))
        progress.evaluated(
            EvaluationResult(
                task_names, np.ones(len(task_names)), np.zeros(len(task_names)), episodes=50
            )
        )


def test_a_log_file_gets_one_plain_line_per_interval() -> None:
    log = console(terminal=False)
    run(log)
    assert output(log).splitlines() == [
        " 25%    500,000 steps  ETA -            12,150 env/s  1,215 upd/s  success 25%",
        " 50%  1,000,000 steps  ETA 20 min 00 s  12,150 env/s  1,215 upd/s  success 25%",
        " 75%  1,500,000 steps  ETA 10 min 00 s  12,150 env/s  1,215 upd/s  success 25%",
        "100%  2,000,000 steps  ETA 0 s          12,150 env/s  1,215 upd/s  success 25%",
        "evaluation: mean success 100%",
    ]


def test_a_log_file_gets_no_control_characters() -> None:
    log = console(terminal=False)
    run(log)
    progress = Progress(10, TASKS, log)
    progress.final_table(RESULT, run_dir=Path("a"), checkpoint=Path("b"), plots=[], seconds=1)
    assert all(character.isprintable() or character == "\n" for character in output(log))


def test_a_redirected_run_stays_plain_even_when_colour_is_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress(10, TASKS) as progress:
        progress.update(5, 1.0, 1.0)
    assert capsys.readouterr().out.isascii()
    assert not progress._in_terminal


def test_a_terminal_shows_the_bar_and_both_success_rates_per_task() -> None:
    terminal = console(terminal=True)
    clock = Clock()
    progress = Progress(1000, TASKS, terminal, clock=clock)
    with progress:
        for steps in (100, 400):
            clock.now += 3600
            progress.update(steps, 2150.0, 215.0, {"reach-v3": 0.75, "push-v3": float("nan")})
        before = view(progress)
        progress.evaluated(RESULT)
        after = view(progress)
    assert re.search(r"40% +2 h 00 min +ETA 2 h 00 min", before)
    assert "400 of 1,000 steps  2,150 env/s  215 updates/s  train success 75%" in before
    assert re.search(r"^reach +75% +- ", before, re.MULTILINE)
    assert re.search(r"^push +- +- ", before, re.MULTILINE)
    assert "eval success 52%" in after
    assert re.search(r"^reach +75% +100% ", after, re.MULTILINE)
    assert re.search(r"^button-press-topdown-wall +- +6% ", after, re.MULTILINE)


def test_the_empty_part_of_a_bar_is_neither_black_nor_white() -> None:
    terminal = Console(force_terminal=True, color_system="truecolor", width=20)
    for segment in share_bar(0.0, width=20, color="green").__rich_console__(
        terminal, terminal.options
    ):
        assert isinstance(segment, Segment)
        assert segment.style is not None
        assert segment.style.color is not None
        assert all(90 < part < 170 for part in segment.style.color.get_truecolor())


def view(progress: Progress) -> str:
    page = console(terminal=False)
    page.print(progress._view())
    return output(page)


def test_the_remaining_time_follows_the_recent_speed() -> None:
    clock = Clock()
    log = console(terminal=False)
    with Progress(10_000, TASKS, log, clock=clock) as progress:
        for steps in range(0, 8_001, 100):
            clock.now += 0.01 if steps <= 4_000 else 10.0
            progress.update(steps, 1.0, 1.0)
    assert "ETA 3 min 20 s" in output(log).splitlines()[-1]


def test_lengths_of_a_run_that_may_end_sooner_are_at_most() -> None:
    clock, log = Clock(), console(terminal=False)
    progress = Progress(1000, TASKS, log, at_most="at most ", clock=clock)
    progress.estimate(1800)
    for steps in (100, 400):
        clock.now += 3600
        progress.update(steps, 1.0, 1.0)
    said, _, line = output(log).splitlines()
    assert said == "This run will take at most about 30 min."
    assert "  ETA at most 2 h 00 min  " in line
    assert "ETA at most 2 h 00 min" in view(progress)
    assert "400 of at most 1,000 steps" in view(progress)


def test_a_run_that_goes_on_shows_how_far_it_was() -> None:
    screen = console(terminal=True)
    progress = Progress(1000, TASKS, screen)
    progress.go_on(300, dict.fromkeys(TASKS, 0.375), RESULT)
    screen.print(progress._view())
    text = ESCAPE.sub("", output(screen))
    assert " 30%" in text
    assert "300 of 1,000 steps" in text
    assert re.findall(r"38% +(\d+)%", text) == ["100", "50", "6"]


def test_the_terminal_display_is_gone_after_the_final_table() -> None:
    terminal = console(terminal=True)
    with Progress(10, TASKS, terminal) as progress:
        progress.update(10, 1.0, 1.0)
        progress.final_table(RESULT, run_dir=Path("a"), checkpoint=Path("b"), plots=[], seconds=1)
    written = output(terminal)
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1, "cursor comes back"
    assert "steps" not in ESCAPE.sub("", written[written.index("Evaluation, ") :])


def test_the_terminal_display_is_gone_after_the_run() -> None:
    terminal = console(terminal=True)
    with Progress(10, TASKS, terminal) as progress:
        progress.update(10, 1.0, 1.0)
    erase_line = "\x1b[2K"
    assert output(terminal).rindex(erase_line) > output(terminal).rindex("steps")


def test_a_result_is_printed_without_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(RESULT)
    assert re.search(r"reach-v3 +100% .* 4,321", capsys.readouterr().out)


def test_an_interrupted_run_gives_the_cursor_back() -> None:
    terminal = console(terminal=True)

    def interrupted_run() -> None:
        with Progress(10, TASKS, terminal) as progress:
            progress.update(7, 1.0, 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert output(terminal).rstrip().endswith("\x1b[?25h")
    assert "7 of 10 steps" in ESCAPE.sub("", output(terminal))


@pytest.mark.parametrize("terminal", [True, False])
def test_messages_are_printed_as_they_are(terminal: bool) -> None:
    screen = console(terminal=terminal)
    with Progress(10, TASKS, screen) as progress:
        progress.message("saved [bold]/runs/[1]/checkpoint")
        progress.estimate(2 * 3600 + 290)
    text = ESCAPE.sub("", output(screen))
    assert "saved [bold]/runs/[1]/checkpoint" in text
    assert "This run will take about 2 h 05 min." in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(42.0, "42 s"), (1804.0, "30 min"), (130, "2 min 10 s")]
)
def test_an_estimate_is_no_more_exact_than_it_can_be(seconds: float, text: str) -> None:
    log = console(terminal=False)
    Progress(10, TASKS, log).estimate(seconds)
    assert output(log) == f"This run will take about {text}.\n"


def test_the_final_table_has_scores_and_places(tmp_path: Path) -> None:
    log = console(terminal=False)
    run_dir = tmp_path / ("long " * 20) / "run"
    Progress(10, TASKS, log).final_table(
        RESULT,
        run_dir=run_dir,
        checkpoint=run_dir / "checkpoint",
        plots=[run_dir / "plots" / "success.png", run_dir / "plots" / "weights.png"],
        seconds=1832,
    )
    lines = [" ".join(re.sub(r"[━╸╺]", "", line).split()) for line in output(log).splitlines()]
    assert "Evaluation, episodes per task: 50" in lines
    assert "reach-v3 100% 4,321" in lines
    assert "push-v3 50% 0" in lines
    assert "button-press-topdown-wall-v3 6% -12.6" in lines
    assert "mean 52% 1,436" in lines
    assert "time 30 min 32 s" in lines
    whole = output(log)
    assert f"logs         {run_dir}\n" in whole
    assert f"checkpoint   {run_dir / 'checkpoint'}\n" in whole
    assert f"plots        {run_dir / 'plots'}\n" in whole
    assert f"tensorboard --logdir '{run_dir}'\n" in whole


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("num_tasks", [1, 10, 50])
def test_everything_fits_eighty_columns(terminal: bool, num_tasks: int) -> None:
    screen = console(terminal=terminal, width=200)
    names = tuple(f"button-press-topdown-wal{i:02d}-v3" for i in range(num_tasks))
    run(screen, names)
    result = EvaluationResult(names, np.ones(num_tasks), np.full(num_tasks, 1e5), episodes=50)
    Progress(10, names, screen).final_table(
        result, run_dir=Path("runs/a"), checkpoint=Path("runs/a/b"), plots=[], seconds=1e6
    )
    lines = re.split(r"[\r\n]+", ESCAPE.sub("", output(screen)))
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert f"button-press-topdown-wal{num_tasks - 1:02d}" in " ".join(lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (723, "12 min 03 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (24 * 3600 - 20, "1 d 00 h"),
        (100 * 3600, "4 d 04 h"),
        (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
