"""What a person or a log file sees of a run while it runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from exporter.cli.log_setup import logging_to
from exporter.cli.progress_text import sentence
from exporter.model.progress import Progress, ProgressCallback

log = logging.getLogger("exporter")
_EVERY_S = 60.0


@contextmanager
def watching(*, quiet: bool, log_format: str) -> Iterator[ProgressCallback]:
    """Show the run to whoever is there: a live display at a terminal, plain lines elsewhere.

    Yields:
        What the run calls with its progress.
    """
    at_a_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    if at_a_terminal and not quiet and log_format == "text":
        from exporter.cli.live_display import display

        with display() as (show, handler), logging_to(handler, quiet=quiet, log_format=log_format):
            yield show
        return
    with logging_to(logging.StreamHandler(sys.stderr), quiet=quiet, log_format=log_format):
        yield Lines()


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
