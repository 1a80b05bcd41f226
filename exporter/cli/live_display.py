"""The live display of a run at a terminal; the log goes above it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.text import Text

from exporter.model.progress import Progress, ProgressCallback
from exporter.model.units import duration_text

#: Drawing costs the event loop about a millisecond; four times a second is smooth enough.
_FASTEST_S = 0.2
_LABEL = 11
_COLUMN = 28
_STYLES = {"WARNING": "yellow", "ERROR": "red"}


@contextmanager
def display() -> Iterator[tuple[ProgressCallback, logging.Handler]]:
    """Hold the last lines of the terminal; yield what shows the progress, and where the log goes meanwhile."""
    console = _Console(stderr=True, highlight=False, markup=False, emoji=False)
    live = Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )
    with live:
        yield _Display(live), _AboveDisplay(console)


class _Console(Console):
    """Never hides the cursor: nobody would bring it back after `kill -9`."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _AboveDisplay(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._console.print(
                Text(self.format(record), style=_STYLES.get(record.levelname, "")), soft_wrap=True
            )
        except OSError:
            pass  # the terminal is gone; the run goes on


class _Display:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._shown_at = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._shown_at < _FASTEST_S:
            return
        self._shown_at = now
        try:
            console = self._live.console
            drawn = picture(progress, console.width, ascii_only=console.options.ascii_only)
            self._live.update(drawn, refresh=True)
        except OSError:
            pass  # the terminal is gone; the run goes on


def picture(progress: Progress, width: int, *, ascii_only: bool = False) -> Text:
    """Draw how far the run is, in a few lines that fit into `width` columns, 60 or more.

    `ascii_only` is for terminals whose encoding may lack what the bar is drawn with.
    """
    publishing = progress.phase in ("publishing", "done")
    listing = progress.phase == "listing"
    done = progress.published if publishing else progress.done
    text = Text(no_wrap=True, overflow="crop")
    strokes = ("#", "-") if ascii_only else ("━", "━")
    label = "Publishing" if publishing else progress.phase.title()
    _bar(text, label, done, progress.total, width, strokes)
    if not publishing:
        _cells(text, ("Rate", progress.rate_text), ("Left", duration_text(progress.left_s)))
    if not listing:
        _cells(text, ("Fetched", f"{progress.fetched:,}"), ("Rejected", f"{progress.rejected:,}"))
    retried = f"{progress.retried:,}" + (f" and {progress.throttled:,} × 429" if progress.throttled else "")
    _cells(text, ("Retried", retried), ("Elapsed", duration_text(progress.elapsed_s)))
    if not publishing and (waiting := _waiting(progress)):
        text.append("\n" + "Waiting".ljust(_LABEL), "yellow")
        text.append(waiting, "yellow")
    return text


def _bar(text: Text, label: str, done: int, total: int, width: int, strokes: tuple[str, str]) -> None:
    percent = 100 * done // total if total else 100  # rounded down: 100 % is all of them
    numbers = f" {percent:3d} %  {done:,} of {total:,}"
    room = max(8, min(40, width - _LABEL - len(numbers) - 1))
    full = round(room * done / total) if total else room
    text.append(label.ljust(_LABEL), "bold")
    text.append(strokes[0] * full, "green")
    text.append(strokes[1] * (room - full), "bright_black")
    text.append(numbers)


def _cells(text: Text, *cells: tuple[str, str]) -> None:
    """Write two labels, each with its value, side by side."""
    text.append("\n")
    (first, left), (second, right) = cells
    text.append(first.ljust(_LABEL), "bright_black")
    text.append(left.ljust(_COLUMN))
    text.append(second.ljust(_LABEL), "bright_black")
    text.append(right)


def _waiting(progress: Progress) -> str:
    """Say what is waited for, in the words of its cause; nothing where nothing is."""
    if progress.down_since is not None:
        return f"API down since {_clock(progress.down_since)}, asking again"
    if progress.paused_s:
        return f"{progress.why}, until {_clock(time.time() + progress.paused_s)}"
    if progress.waiting:
        return f"{progress.waiting:,} for another attempt after a failure"
    if progress.limited and progress.permitted_per_s is not None:
        return f"{progress.why}, slowing to {progress.permitted_per_s:.3g}/s"
    return ""


def _clock(moment: float) -> str:
    """Return a time of day in the machine's own zone."""
    return f"{datetime.fromtimestamp(moment, UTC).astimezone():%H:%M:%S}"
