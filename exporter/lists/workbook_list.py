"""Workbooks (.xlsx, .xls, .xlsb, .ods): read in a process of its own, which may die of what is in them."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from typing import Any

import msgspec

from exporter.lists.batch import Batch
from exporter.lists.how_read import Source
from exporter.model.errors import error_of
from exporter.system.child_process import python_path, signals_held
from exporter.system.extras import need_extra


def read(source: Source) -> Iterator[Batch]:
    """Yield the batches of a workbook's sheet, which must be a file; the header is not a line of any batch."""
    need_extra(source.name, "xlsx", "python_calamine")
    for slim in (False, True):
        last = yield from _try(source, slim)
        for name, value in last.get("reading", {}).items():
            setattr(source.reading, name, value)
        if "reading" in last:
            return
        if last:  # it died on the way, after some batches
            break
    why = "needs too much memory: a stray cell far below or to the right does that"
    hint = "Copy the used cells into a new workbook, or make a CSV: soffice --headless --convert-to csv"
    source.refuse(f"expected a workbook that can be read, got one that {why}.", f"{hint} {source.name}")


def _try(source: Source, slim: bool) -> Generator[Batch, None, dict[str, Any]]:
    """Yield the batches; return the last message, empty where the process died before its first."""
    choice = source.choice
    request = {"name": source.name, "column": choice.column, "sheet": choice.sheet, "slim": slim}
    source.stream.seek(0)
    with signals_held():
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "exporter.lists.workbook_process", json.dumps(request)],
            stdin=source.stream,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": python_path(), "MALLOC_ARENA_MAX": "2"},
        )
    with process:
        try:
            message: dict[str, Any] = {}
            for message in map(json.loads, process.stdout or ()):
                if "error" in message:
                    raise error_of(*message["error"])
                if "reading" not in message:
                    yield msgspec.convert(message, Batch)
            return message
        finally:
            process.kill()
