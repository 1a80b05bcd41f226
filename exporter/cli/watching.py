"""What a person or a log file sees of a run while it runs: a display at a terminal, and the log on stderr.

Every JSON line has `time` (ISO 8601, UTC), `level` (`info`, `warning`, `error`), `message` and `event`:

- `log`: anything else; nothing more.
- `progress`, each minute and at the end: the fields of `exporter.Progress`, and `left_s`.
- `failed`, the last line of a run that failed: `hint`, `exit_code`, and `command`, which resumes.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime

import click

from exporter.model.options import without_known_path
from exporter.model.outside_text import json_line, visible
from exporter.model.progress import Progress, ProgressCallback
from exporter.system.log import log

_EVERY_S = 60.0
_TEXT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def watching(*, quiet: bool, log_format: str) -> Iterator[ProgressCallback]:
    """Show the run to whoever is there, by what is yielded: a live display at a terminal, plain lines elsewhere."""
    without_term = "dumb" if os.name == "posix" else ""  # Windows sets none
    at_a_terminal = sys.stderr.isatty() and os.environ.get("TERM", without_term) not in ("dumb", "unknown")
    if at_a_terminal and not quiet and log_format == "text":
        from exporter.cli.live_display import display

        seen: AbstractContextManager[tuple[ProgressCallback, logging.Handler]] = display()
    else:
        seen = nullcontext((Lines(), logging.StreamHandler(sys.stderr)))
    before = log.handlers[:], log.propagate, log.level  # nobody else's logger is touched
    try:
        with seen as (show, handler):
            handler.setFormatter(_Json() if log_format == "json" else _Text(_TEXT, "%Y-%m-%d %H:%M:%S"))
            log.handlers[:], log.propagate = [handler], False
            log.setLevel(logging.ERROR if quiet else logging.INFO)
            _name_settings()
            yield show
    finally:
        log.handlers[:], log.propagate, level = before
        log.setLevel(level)


def _name_settings() -> None:
    """Name the configuration file that is obeyed, and an address that is not used as it was given."""
    if (ctx := click.get_current_context(silent=True)) is None:
        return
    if (path := ctx.meta.get("exporter.settings")) is not None:
        log.info("Settings: %s", path.absolute())
    given = str(ctx.params.get("api_url") or "").rstrip("/")
    if given != (url := without_known_path(given)):
        log.info("Using %s as the API's address: the paths below it are known.", url)


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
        log.info("%s", progress, extra={"fields": fields})


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "log",
            "message": record.getMessage(),
        }
        return json_line(line | getattr(record, "fields", {}))
