"""The log on stderr: text for people, one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


def set_up_logging(*, quiet: bool, log_format: str) -> None:
    """Send our own logger to stderr; nobody else's is touched.

    Args:
        quiet: Errors only.
        log_format: `text` or `json`.
    """
    logger = logging.getLogger("exporter")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else logging.Formatter(_TEXT, "%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.ERROR if quiet else logging.INFO)


_TEXT = "%(asctime)s %(levelname)s %(message)s"


class _Json(logging.Formatter):
    """`time` (UTC), `level`, `message`; more keys where a record carries `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}), ensure_ascii=False)
