"""The log on stderr: text for people, one JSON object a line for machines.

Every JSON line has `time` (ISO 8601, UTC), `level` (`info`, `warning`, `error`), `message` and `event`:

- `log`: anything else; nothing more.
- `progress`, each minute and at the end: the fields of `exporter.Progress`, and `left_s`.
- `failed`, the last line of a run that failed: `hint`, `exit_code`, and `command`, which goes on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

TEXT = "%(asctime)s %(levelname)s %(message)s"
_TIME = "%H:%M:%S"


@contextmanager
def logging_to(handler: logging.Handler, *, quiet: bool, log_format: str) -> Iterator[None]:
    """Send our own logger to `handler` for as long as the block lasts; nobody else's is touched."""
    logger = logging.getLogger("exporter")
    before = logger.handlers[:], logger.propagate, logger.level
    handler.setFormatter(_Json() if log_format == "json" else logging.Formatter(TEXT, _TIME))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "log",
            "message": record.getMessage(),
        }
        return json.dumps(line | getattr(record, "fields", {}), ensure_ascii=False)
