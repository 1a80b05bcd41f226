"""What a person or a log file sees of a run while it runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from exporter.cli.logs import logging_to
from exporter.progress import Progress, ProgressCallback
from exporter.units import duration_text

log = logging.getLogger("exporter")
_EVERY_S = 60.0


@contextmanager
def watching(*, quiet: bool, log_format: str) -> Iterator[ProgressCallback]:
    """Show the run to whoever is there: a live display at a terminal, plain lines elsewhere.

    Args:
        quiet: Errors only.
        log_format: `text` or `json`.

    Yields:
        What the run calls with its progress.
    """
    if not quiet and log_format == "text" and _at_a_terminal():
        from exporter.cli.display import display

        with display() as (show, handler), logging_to(handler, quiet=quiet, log_format=log_format):
            yield show
        return
    with logging_to(logging.StreamHandler(sys.stderr), quiet=quiet, log_format=log_format):
        yield Lines()


def _at_a_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


class Lines:
    """One plain line each minute, and one at the end."""

    def __init__(self) -> None:
        self._told_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Take in how far the run is."""
        if progress.phase != "done" and progress.elapsed_s - self._told_at < _EVERY_S:
            return
        self._told_at = progress.elapsed_s
        fields = {"event": "progress", **asdict(progress), "left_s": progress.left_s}
        log.info("%s", sentence(progress), extra={"fields": fields})


def sentence(progress: Progress) -> str:
    """Return how far the run is, in one line."""
    rejected = f", {progress.rejected:,} rejected" if progress.rejected else ""
    if progress.phase == "done":
        took = duration_text(progress.elapsed_s)
        return f"Finished after {took}: {progress.done:,} of {progress.total:,} orders done{rejected}."
    if progress.phase == "publishing":
        return f"Publishing: {progress.published:,} of {progress.total:,} orders are in the tables."
    return (
        f"{progress.done:,} of {progress.total:,} orders done{rejected},"
        f" {rate_text(progress)}, {duration_text(progress.left_s)} left{_pause(progress)}."
    )


def rate_text(progress: Progress) -> str:
    """Return the rate used and the rate permitted.

    A fast one needs no decimals; a slow one is nothing without them.
    """
    used = _number(progress.rate_per_s)
    permitted = progress.permitted_per_s
    return f"{used}/s" if permitted is None else f"{used} of {_number(permitted)}/s"


def _number(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def _pause(progress: Progress) -> str:
    if not progress.paused_s:
        return ""
    return f"; waiting for another {duration_text(progress.paused_s)}: {progress.why}"
