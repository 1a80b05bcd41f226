"""The live display of a run at a terminal; the log goes above it."""

import logging
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.live import Live
from rich.text import Text

from exporter.model.progress import Progress, ProgressCallback
from exporter.model.units import duration_text, local_time

_FASTEST_S = 0.2  # drawing costs the event loop about a millisecond; four times a second is smooth enough
_LABEL = 11
_COLUMN = 28
_SIDE_BY_SIDE = 60
_SHORTEST_BAR = 8
_STYLES = {"WARNING": "yellow", "ERROR": "red"}


@contextmanager
def display() -> Iterator[tuple[ProgressCallback, logging.Handler]]:
    """Hold the last lines of the terminal; yield what shows the progress, and where the log goes meanwhile."""
    console = _Console(stderr=True, highlight=False, markup=False, emoji=False)
    live = Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )
    shown_at = 0.0

    def show(progress: Progress) -> None:
        nonlocal shown_at
        if (now := time.monotonic()) - shown_at >= _FASTEST_S:
            shown_at = now
            drawn = picture(progress, console.width, ascii_only=console.options.ascii_only)
            with suppress(OSError):  # the terminal is gone; the run continues
                live.update(drawn, refresh=True)

    with live:
        yield show, _AboveDisplay(console)


class _Console(Console):
    """Never hides the cursor: nobody would bring it back after `kill -9`."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _AboveDisplay(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        line = Text(self.format(record), style=_STYLES.get(record.levelname, ""))
        with suppress(OSError):  # the terminal is gone; the run continues
            self._console.print(line, soft_wrap=True)


def picture(progress: Progress, width: int, *, ascii_only: bool = False) -> Text:
    """Draw how far the run is, in lines of `width` columns, 40 or more; `ascii_only` for terminals without bars."""
    publishing = progress.phase in ("publishing", "done")
    done = progress.published if publishing else progress.done
    text = Text(no_wrap=True, overflow="crop")
    text.append(("Publishing" if publishing else progress.phase.title()).ljust(_LABEL), "bold")
    _bar(text, done, progress.total, width - _LABEL, ("#", "-") if ascii_only else ("━", "━"))
    cells = {} if publishing else {"Rate": progress.rate_text, "Left": duration_text(progress.left_s)}
    if progress.phase != "listing":
        cells |= {"Fetched": f"{progress.fetched:,}", "Rejected": f"{progress.rejected:,}"}
    retried = f"{progress.retried:,}" + (f" and {progress.throttled:,} × 429" if progress.throttled else "")
    cells |= {"Retried": retried, "Elapsed": duration_text(progress.elapsed_s)}
    for place, (label, value) in enumerate(cells.items()):
        text.append("\n" if place % 2 == 0 or width < _SIDE_BY_SIDE else "")
        text.append(label.ljust(_LABEL), "bright_black")
        text.append(value if place % 2 else value.ljust(_COLUMN))
    waiting = "" if publishing else _waiting(progress)
    for place, line in enumerate(textwrap.wrap(waiting, width - _LABEL)):
        text.append("\n" + ("" if place else "Waiting").ljust(_LABEL) + line, "yellow")
    return text


def _bar(text: Text, done: int, total: int, width: int, strokes: tuple[str, str]) -> None:
    """Draw a bar and its numbers, one below the other where they do not fit side by side."""
    percent = 100 * done // total if total else 100  # rounded down: 100 % is all of them
    numbers = f" {percent:3d} %  {done:,} of {total:,}"
    beside = width - len(numbers) - 1
    room = min(40, beside if beside >= _SHORTEST_BAR else width)
    full = round(room * done / total) if total else room
    text.append(strokes[0] * full, "green")
    text.append(strokes[1] * (room - full), "bright_black")
    text.append(numbers if beside >= _SHORTEST_BAR else f"\n{numbers}")


def _waiting(progress: Progress) -> str:
    """Say what is waited for, in the words of its cause; nothing where nothing is."""
    if progress.down_since is not None:
        return f"API down since {local_time(progress.down_since):%H:%M:%S}, checking again"
    if progress.paused_s:
        return f"{progress.why}, until {local_time(time.time() + progress.paused_s):%H:%M:%S}"
    if progress.waiting:
        return f"{progress.waiting:,} for another attempt after a failure"
    if progress.limited and progress.permitted_per_s is not None:
        return f"{progress.why}, slowing to {progress.permitted_per_s:.3g}/s"
    return ""
