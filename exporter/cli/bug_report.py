"""A file to report a bug with: where in the code it happened, and nothing of what was being worked on.

The messages of foreign exceptions are left out. They quote what they could not handle: an aiohttp error
its request's headers, token included, a decoder the payload with its personal data.
"""

from __future__ import annotations

import platform
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from exporter.model.version import __version__


def write_report(error: BaseException) -> Path | None:
    """Write the report of a bug beside the program's other state; return the file, None where none could be written."""
    from exporter.model.errors import UsageError
    from exporter.system import durable, private_files

    try:
        path = private_files.state_folder() / f"bug-{datetime.now(UTC):%Y%m%d-%H%M%S}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_lines(path, (f"{line}\n".encode() for line in _lines(error)))
    except (OSError, UsageError):
        return None
    return path


def _lines(error: BaseException) -> Iterator[str]:
    yield f"omnitron-exporter {__version__}, Python {platform.python_version()}, {sys.platform}"
    yield from _error_lines(error, set())


def _error_lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    yield f"{type(error).__module__}.{type(error).__qualname__}"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _error_lines(member, seen)
    for behind in (error.__cause__, error.__context__):
        if behind is not None and id(behind) not in seen:
            yield "behind it:"
            yield from _error_lines(behind, seen)
